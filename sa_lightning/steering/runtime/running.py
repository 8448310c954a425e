"""The forwards of a steered model: which tokens of each are real, and that all runs as it was meant."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sa_lightning.errors import ModelError
from sa_lightning.steering.runtime.states import hidden_of, with_hidden

__all__ = ["Bound", "Running", "Site"]

Change = Callable[[Tensor], Tensor]


class Bound:
    """What hangs on a model while it is steered. It belongs to that one model, so it is neither copied nor pickled.

    Args:
        call: What is done.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ModelError(
            "A model is copied, or pickled, while it is steered.\n"
            "The copy would stay steered for ever, by hooks that belong to the original.\n"
            "Copy it before the block, or behind it."
        )


class Site(Bound):
    """A forward hook that changes what a module writes.

    Attributes:
        has_run: Whether it has.
    """

    def __init__(self, module: nn.Module, change: Change, running: "Running") -> None:
        super().__init__(change)
        self.module, self.running = module, running
        self.has_run = False

    def __call__(self, module: nn.Module, _args: Any, output: Any) -> Any:
        """Return the output with changed states; those of padding stay."""
        self.has_run = True
        hidden, real = hidden_of(module, output), self.running.real
        changed = self._call(hidden)
        if real is not None and real.numel() * hidden.shape[-1] == hidden.numel():
            changed = torch.where(real.to(hidden.device).view(*hidden.shape[:-1], 1), changed, hidden)
        return with_hidden(output, changed)


class Running:
    """The forwards of one decoder, one inside another if need be, while its states are changed.

    What is compiled is not looked at: there, nothing but the tensors themselves may take part.

    Args:
        decoder: The module that holds the changed ones.
        changes: Modules below it, each with the function its output goes through.

    Attributes:
        real: Which tokens of the forward that runs are no padding, shape (batch, pos, 1); none where nothing says so.
        unseen: Whether the decoder has run to its end, and only where nothing can look at it.
    """

    def __init__(self, decoder: nn.Module, changes: Sequence[tuple[nn.Module, Change]]) -> None:
        self.decoder = decoder
        self.sites = [Site(module, change, self) for module, change in changes]
        self.real: Tensor | None = None
        self.unseen = False
        self._outer: list[tuple[Tensor | None, bool]] = []  # forwards that this one is inside of
        self._thread = threading.RLock()
        self._complete = False
        self._place = _place_of(decoder)

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which tokens are real, before anything else happens in a forward.

        Raises:
            ModelError: If another thread runs the model, or if it was moved or converted.
        """
        looks = not torch.compiler.is_compiling()
        if looks and not self._thread.acquire(blocking=False):
            raise ModelError(
                f"{type(module).__name__} is steered, and runs in another thread.\n"
                "Of two forwards at a time, one would be steered by what is known of the other's padding.\n"
                "Let one thread wait for the other, or load the model once for each."
            )
        self._outer.append((self.real, looks))
        real = _real_tokens(args, kwargs)
        if real is not None:
            self.real = real
        if looks and _place_of(self.decoder) != self._place:
            raise ModelError(
                f"{type(module).__name__} is {_said(_place_of(self.decoder))}, and was {_said(self._place)} when the "
                "block was entered.\nDirections were placed, and weights looked at, then.\n"
                "Move or convert the model first, then steer it."
            )

    def begin_anew(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The same in the outermost module, whose tokens have nothing to do with those of a forward around it."""
        self.begin(module, args, kwargs)
        self.real = _real_tokens(args, kwargs)

    def end(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        """Go back to the forward that this one ran inside of, also after an error."""
        if not self._outer:
            return
        real, looked = self._outer[-1]
        if looked:
            try:
                self._thread.release()
            except RuntimeError:  # a second thread, which was refused
                return
        self._outer.pop()
        self.real = real

    def check(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        """Refuse, at the end of the first forward, that a module did not run."""
        if torch.compiler.is_compiling():
            self.unseen = True
        elif not self._complete:
            self.check_sites()
            self._complete = True

    def check_sites(self) -> None:
        """Refuse that a module has not run.

        Raises:
            ModelError: With the names of those that have not.
        """
        names: dict[nn.Module, str] = {}
        for name, module in self.decoder.named_modules():  # pyright: ignore[reportUnknownVariableType]  # of torch
            names[module] = name  # pyright: ignore[reportUnknownArgumentType]
        idle = [f"{names.get(s.module, '?')} ({type(s.module).__name__})" for s in self.sites if not s.has_run]
        if idle:
            raise ModelError(
                f"{len(idle)} of {len(self.sites)} steered modules did not run in a forward of "
                f"{type(self.decoder).__name__}: {', '.join(idle[:6])}{', …' if len(idle) > 6 else ''}.\n"
                "They were skipped, or called in a way that no hook sees (`forward`, a traced copy).\n"
                "Steer other layers, another site, or the model as it was loaded."
            )


def _place_of(module: nn.Module) -> tuple[torch.dtype, torch.device] | None:
    """Type and device of the first parameter; all are moved and converted together."""
    first = next(module.parameters(), None)
    return None if first is None else (first.dtype, first.device)


def _said(place: tuple[torch.dtype, torch.device] | None) -> str:
    return "without parameters" if place is None else f"{place[0]} on {place[1]}"


def _real_tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Which tokens of this forward are no padding, shape (batch, pos, 1); None where nothing says so."""
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    tokens = kwargs.get("input_ids", args[0] if args else None)
    tokens = kwargs.get("inputs_embeds") if tokens is None else tokens
    if not isinstance(mask, Tensor) or mask.dim() != 2 or tokens is None or mask.shape[1] < tokens.shape[1]:
        return None
    return mask[:, -tokens.shape[1] :, None].bool()
