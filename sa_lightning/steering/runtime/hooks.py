"""Context managers over modules of someone else's model: read what they write, or change it.

Knows nothing of transformers: it takes a sequence of modules whose output is a tensor of shape
(batch, pos, d_model), or a tuple that starts with one. Whatever is hooked is given back at the end.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Float
from torch import Tensor, nn

Read = Callable[[Tensor], Tensor]
Change = Callable[[Tensor], Tensor]


_STEERED: WeakSet[nn.Module] = WeakSet()  # decoders whose states are changed now


def is_steered(decoder: nn.Module) -> bool:
    """Whether states below a decoder are changed now (`steering`)."""
    return decoder in _STEERED


class Stopped(Exception):
    """Leaves a forward behind the last module that is read: nothing that follows is needed."""


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
def capture(modules: Iterable[nn.Module], read: Read, *, stop: bool = False) -> Generator[Captured]:
    """Read the output of each module during the forwards inside the block.

    Args:
        modules: For example the decoder blocks, in the order in which they run.
        read: Takes a module's output of shape (batch, pos, d_model) and returns what to keep of it,
            such as the states at the last tokens: only that stays in memory. A copy: some families (Falcon)
            go on working in the tensor itself.
        stop: Leave the forward behind the last module by raising `Stopped`, which the caller catches.
            Not for modules that others have hooked to clean up after a forward, as FSDP does.
    """
    modules = list(modules)
    captured = Captured(len(modules))

    def reader(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            captured.values[index] = read(hidden_of(output).detach())
            if stop and index == len(modules) - 1:
                raise Stopped

        return hook

    with ExitStack() as stack:
        for index, module in enumerate(modules):
            stack.callback(module.register_forward_hook(reader(index)).remove)
        yield captured


@contextmanager
def steering(
    decoder: nn.Module, changes: Sequence[tuple[nn.Module, Change]], callers: Sequence[nn.Module] = ()
) -> Generator[None]:
    """Change the output of modules in every forward inside the block, at every real token.

    Padding is left as it is: the two-dimensional `attention_mask` that the decoder is called with
    says which tokens are real, and is looked at once a forward. Without one (a static cache makes it
    four-dimensional) every token is steered; nothing attends to padding, so replies do not change by
    it. Works under a KV cache, where the mask covers more than the tokens of this forward, and never
    asks the device for a value. Modules may be compiled, before or inside.

    Args:
        decoder: The module that holds the changed ones, and runs once per forward.
        changes: Modules below the decoder, each with the function its output goes through.
        callers: Modules above the decoder that may be called with the mask in its stead: some families
            (Gemma 3 with vision) hand their decoder masks of their own making.
    """
    _compiled_code_sees_hooks()
    current: list[Tensor | None] = [None]

    def remember(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        real = _real_tokens(args, kwargs)
        if real is not None:
            current[0] = real

    def forget(_module: nn.Module, _args: Any, _output: Any) -> None:
        current[0] = None

    def changer(change: Change) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            hidden, real = hidden_of(output), current[0]
            changed = change(hidden)
            if real is not None and real.numel() * hidden.shape[-1] == hidden.numel():
                changed = torch.where(real.to(hidden.device).view(*hidden.shape[:-1], 1), changed, hidden)
            return changed if isinstance(output, Tensor) else (changed, *output[1:])

        return hook

    with ExitStack() as stack:
        if decoder not in _STEERED:  # of several blocks, the outer one
            _STEERED.add(decoder)
            stack.callback(_STEERED.discard, decoder)
        for module in (*callers, decoder):
            stack.callback(module.register_forward_pre_hook(remember, with_kwargs=True).remove)
        stack.callback(decoder.register_forward_hook(forget, always_call=True).remove)
        for module, change in changes:
            stack.callback(module.register_forward_hook(changer(change)).remove)
        yield


def _compiled_code_sees_hooks() -> None:
    """Let compiled code look for hooks, of which it takes no notice by default, and drop what was compiled without."""
    import torch._dynamo.config as dynamo

    if dynamo.skip_nnmodule_hook_guards:
        dynamo.skip_nnmodule_hook_guards = False
        torch.compiler.reset()


def _real_tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Which tokens of this forward are no padding, shape (batch, pos, 1); None where nothing says so."""
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    tokens = kwargs.get("input_ids", args[0] if args else None)
    tokens = kwargs.get("inputs_embeds") if tokens is None else tokens
    if not isinstance(mask, Tensor) or mask.dim() != 2 or tokens is None or mask.shape[1] < tokens.shape[1]:
        return None
    return mask[:, -tokens.shape[1] :, None].bool()


def hidden_of(output: Any) -> Tensor:
    """Blocks of most families return the stream itself, of some a tuple that starts with it."""
    return output if isinstance(output, Tensor) else output[0]
