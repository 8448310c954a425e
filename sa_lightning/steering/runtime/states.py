"""Where the states are in what a module writes: the stream itself, or a container of a class of its own."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sa_lightning.errors import ModelError

__all__ = ["hidden_of", "with_hidden"]

NAMES = ("hidden_states", "last_hidden_state")  # of states in outputs that are mappings, as those of transformers


def hidden_of(module: nn.Module, output: Any) -> Tensor:
    """The states in what a module wrote: blocks of most families return the stream itself, of some a tuple.

    Args:
        module: Which has written it, for the message.
        output: A tensor, a tuple or list that begins with one, or a mapping with one of `NAMES`.

    Raises:
        ModelError: If it is anything else, with the names of both classes.
    """
    if isinstance(output, Tensor):
        return output
    place = _place_of(output)
    hidden = None if place is None else output[place]
    if isinstance(hidden, Tensor):
        return hidden
    raise ModelError(
        f"{type(module).__name__} returned a {type(output).__name__} in which no states are found.\n"
        f"Known are tensors, tuples and lists that begin with one, and mappings with `{'` or `'.join(NAMES)}`.\n"
        "Let the module return its states in one of these ways, or choose another `--steering.site`."
    )


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """The same output with other states, in a container of the same class; the one that was written stays as it is."""
    if isinstance(output, Tensor):
        return hidden
    if type(output) is tuple:
        return (hidden, *output[1:])
    if isinstance(output, tuple):  # one with names
        return output._replace(**{output._fields[0]: hidden})  # pyright: ignore  # of a class that is not known
    changed = copy.copy(output)
    changed[_place_of(output)] = hidden
    return changed


def _place_of(output: Any) -> Any:
    if isinstance(output, Mapping):
        return next((name for name in NAMES if name in output), None)
    known: Any = output
    return 0 if (type(output) is tuple or isinstance(output, list) or hasattr(output, "_replace")) and known else None
