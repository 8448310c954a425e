"""What is done to a KV cache around a prompt that is looked at: tokens taken off it, and some put back."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sa_lightning.errors import ModelError


def real_tokens(mask: Any, count: int) -> Tensor | None:
    """Which of the first tokens are no padding, shape (batch, pos), of a mask of any kind; None without one."""
    if isinstance(mask, Mapping):  # one for each kind of layer
        mask = mask.get("full_attention")
    if not isinstance(mask, Tensor):
        return None
    if mask.dim() == 4:  # (batch, heads, queries, keys), as for a static cache: what the last token looks at
        mask = mask[:, 0, -1, :count]
        mask = mask == 0 if mask.is_floating_point() else mask
    return mask.long()


def cache_of(found: Mapping[str, Any]) -> Any:
    """The KV cache among the arguments, or in the output, of a forward; transformers has renamed it."""
    cache = found.get("cache")
    return found.get("past_key_values") if cache is None else cache


def last_of(cache: Any, count: int) -> list[tuple[Tensor, Tensor] | None]:
    """Keys and values of the last tokens, of each layer that keeps them as a plain tensor."""
    found: list[tuple[Tensor, Tensor] | None] = []
    for layer in getattr(cache, "layers", ()):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        # The tensors of a static cache are longer than what is in them.
        static = isinstance(getattr(layer, "cumulative_length", None), Tensor)
        if isinstance(keys, Tensor) and isinstance(values, Tensor) and keys.dim() == 4 and not static:
            found.append((keys[..., -count:, :].clone(), values[..., -count:, :].clone()))
        else:
            found.append(None)
    return found


def put_back(cache: Any, kept: Sequence[tuple[Tensor, Tensor] | None], rows: Tensor) -> None:
    """Write what `last_of` kept over the last tokens of some rows, given as booleans of shape (batch,)."""
    for layer, known in zip(getattr(cache, "layers", ()), kept, strict=True):
        if known is None:
            continue
        for now, before in zip((layer.keys, layer.values), known, strict=True):
            count = before.shape[-2]
            now[..., -count:, :] = torch.where(rows.to(now.device)[:, None, None, None], before, now[..., -count:, :])


def crop(cache: Any, count: int) -> None:
    """Take the last tokens off a cache of any kind.

    Raises:
        ModelError: If it cannot be cropped.
    """
    layers = getattr(cache, "layers", ())
    try:
        # A window of fixed size that is full has lost what lies before it, and says so; others are told to keep it.
        if any(not getattr(x, "is_croppable", True) and not hasattr(x, "record_past") for x in layers):
            raise ValueError("what has left its window is lost")
        cache.crop(-count)
    except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:  # each kind of cache its own
        raise ModelError(
            f"Tokens cannot be taken off a {type(cache).__name__}: {error}\n"
            "A gate looks at the prompt with a word appended, and then goes on without it.\n"
            "Use a model, and a `cache_implementation`, whose cache can be cropped."
        ) from error
