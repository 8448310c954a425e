"""The tensors of a loaded model under the names, and in the shapes, of its files: views of what is live."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion


def as_stored(model: Any, files: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return a model's tensors under the names of its checkpoint; what is written into them is written into the model.

    transformers renames and fuses weights when it loads them (all experts of a layer become two tensors), and goes
    back when it saves. Here the same way back is gone without copies, so that the matrix of one expert is a view of
    the fused parameter. A tensor for which that is not possible (one on disk that is several in memory) is a copy,
    which `ModelWeights` leaves out, so that an edit of it is refused by name.

    Args:
        model: A model of transformers; of another kind, or where the way back fails, the names are those in memory.
        files: The names on disk, where they are known: of a checkpoint that was saved without its head, such as
            `h.0.mlp…` for `transformer.h.0.mlp…`, the names lack the model's prefix.
    """
    live: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
    if not isinstance(model, PreTrainedModel):
        return live
    try:
        with torch.no_grad(), _WithoutCopies():
            found: dict[str, Tensor] = revert_weight_conversion(model, live)
    except Exception:  # of a conversion that has no way back: each kind raises what it likes
        found = live
    known, prefix = list(files), f"{model.base_model_prefix}."
    short = {name.removeprefix(prefix): name for name in found}
    found |= {name: found[short[name]] for name in known if name in short and name not in found}
    order = dict.fromkeys([*known, *live, *found])  # of tied names, the first is the one that counts
    return {name: found[name] for name in order if name in found}


class _WithoutCopies(TorchFunctionMode):
    """Leave tensors as strided as they are: what is saved is made contiguous, and so copied."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, but for `contiguous`."""
        return args[0] if func is torch.Tensor.contiguous else func(*args, **(kwargs or {}))
