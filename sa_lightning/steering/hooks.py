"""Context managers over modules of someone else's model: read what they write, or change it.

Knows nothing of transformers: it takes a sequence of modules whose output is a tensor of shape
(batch, pos, d_model), or a tuple that starts with one. Whatever is hooked is given back at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Read = Callable[[Tensor], Tensor]
Change = Callable[[Tensor], Tensor]


class Captured:
    """What the hooked modules wrote in the last forward, one entry a module, in their order."""

    def __init__(self, count: int) -> None:
        self.values: list[Tensor | None] = [None] * count

    def stacked(self) -> Float[Tensor, "batch modules d_model"]:
        """Return the read values, stacked behind the batch dimension.

        Raises:
            RuntimeError: If a module did not run since the hooks were set.
        """
        missing = [index for index, value in enumerate(self.values) if value is None]
        if missing:
            raise RuntimeError(f"Modules {missing} did not run, so there is nothing to read from them.")
        # Blocks may live on several devices; what is read is small.
        first = self.values[0]
        return torch.stack([value.to(first.device) for value in self.values], dim=1)  # type: ignore[union-attr]


@contextmanager
def capture(modules: Iterable[nn.Module], read: Read) -> Iterator[Captured]:
    """Read the output of each module during the forwards inside the block.

    Args:
        modules: For example the decoder blocks, first to last.
        read: Takes a module's output of shape (batch, pos, d_model) and returns what to keep of it,
            such as the states at the last tokens: only that stays in memory.
    """
    modules = list(modules)
    captured = Captured(len(modules))

    def reader(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            captured.values[index] = read(_hidden(output).detach())

        return hook

    with ExitStack() as stack:
        for index, module in enumerate(modules):
            stack.callback(module.register_forward_hook(reader(index)).remove)
        yield captured


@contextmanager
def steering(decoder: nn.Module, changes: Sequence[tuple[nn.Module, Change]]) -> Iterator[None]:
    """Change the output of modules in every forward inside the block, at every real token.

    Padding is left as it is: the two-dimensional `attention_mask` that the decoder is called with
    says which tokens are real. Without one (a static cache makes it four-dimensional) every token is
    steered; nothing attends to padding, so replies do not change by it. Works under a KV cache, where the mask covers
    more than the tokens of this forward, and never asks the device for a value.

    Args:
        decoder: The module that is called with `attention_mask` once per forward.
        changes: Modules below the decoder, each with the function its output goes through.
    """
    current: list[Tensor | None] = [None]

    def remember(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        current[0] = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None

    def changer(change: Change) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            hidden = _hidden(output)
            changed = change(hidden)
            mask = current[0]
            if mask is not None and mask.shape[1] >= hidden.shape[1]:
                real = mask[:, -hidden.shape[1] :, None].to(device=hidden.device, dtype=torch.bool)
                changed = torch.where(real, changed, hidden)
            return changed if isinstance(output, Tensor) else (changed, *output[1:])

        return hook

    with ExitStack() as stack:
        stack.callback(decoder.register_forward_pre_hook(remember, with_kwargs=True).remove)
        for module, change in changes:
            stack.callback(module.register_forward_hook(changer(change)).remove)
        yield


def _hidden(output: Any) -> Tensor:
    """Blocks of most families return the stream itself, of some a tuple that starts with it."""
    return output if isinstance(output, Tensor) else output[0]
