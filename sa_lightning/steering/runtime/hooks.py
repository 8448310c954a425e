"""Context managers over modules of someone else's model: read what they write, or change it.

Knows nothing of transformers: it takes a sequence of modules whose output is a tensor of shape
(batch, pos, d_model), or holds one (`states`). Whatever is hooked is given back at the end.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sa_lightning.steering.runtime.running import Bound, Change, Running
from sa_lightning.steering.runtime.states import hidden_of

Read = Callable[[Tensor], Tensor]


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
        def hook(module: nn.Module, _args: Any, output: Any) -> None:
            captured.values[index] = read(hidden_of(module, output).detach())
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
    asks the device for a value. Modules may be compiled, before or inside, and a forward may run inside another.
    Without changes, no hook is set.

    Args:
        decoder: The module that holds the changed ones, and runs once per forward.
        changes: Modules below the decoder, each with the function its output goes through.
        callers: Modules above the decoder that may be called with the mask in its stead: some families
            (Gemma 3 with vision) hand their decoder masks of their own making.

    Raises:
        ModelError: Inside, if a module does not run in the first forward, or returns what has no states in it; if the
            model is moved or converted, called by a second thread meanwhile, copied, or pickled. Of what is compiled
            as a whole, that a module did not run is found at the end of the block.
    """
    if not changes:
        yield
        return
    _compiled_code_sees_hooks()
    running = Running(decoder, changes)
    with ExitStack() as stack:
        if decoder not in _STEERED:  # of several blocks, the outer one
            _STEERED.add(decoder)
            stack.callback(_STEERED.discard, decoder)
        for inner, module in enumerate((*callers, decoder)):  # before all other hooks: each beginning has an end
            begin = Bound(running.begin if inner else running.begin_anew)
            stack.callback(module.register_forward_pre_hook(begin, with_kwargs=True, prepend=True).remove)
            stack.callback(module.register_forward_hook(Bound(running.end), always_call=True).remove)
        stack.callback(decoder.register_forward_hook(Bound(running.check)).remove)
        for site in running.sites:
            stack.callback(site.module.register_forward_hook(site).remove)
        yield
        if running.unseen:
            running.check_sites()


def _compiled_code_sees_hooks() -> None:
    """Let compiled code look for hooks, of which it takes no notice by default, and drop what was compiled without."""
    import torch._dynamo.config as dynamo

    if dynamo.skip_nnmodule_hook_guards:
        dynamo.skip_nnmodule_hook_guards = False
        torch.compiler.reset()
