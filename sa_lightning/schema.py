"""Values out of a file, against the annotations of the data class that they are for."""

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_types(kind: type[Any], values: Mapping[str, Any]) -> None:
    """Refuse a value that its field could not hold; numbers have to be finite.

    Args:
        kind: A data class.
        values: Of some of its fields, by name.

    Raises:
        TypeError: With the field, the value and what it should be.
    """
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not conforms(value, hints[name]):
            raise TypeError(f"`{name}` is {str(value)[:60]!r}, where {_said(hints[name])} belongs")


def conforms(value: Any, hint: Any) -> bool:
    """Say whether a value is of an annotated type; what no JSON could hold, such as a tensor, is looked at alone."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(conforms(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint is float and isinstance(value, float):
        return math.isfinite(value)
    if hint in (int, float):
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023
    held: Any = value
    if origin in (dict, Mapping):
        one, other = inner
        return isinstance(value, Mapping) and all(conforms(k, one) and conforms(held[k], other) for k in held)
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, tuple) and len(held) == len(inner) and all(map(conforms, held, inner))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(conforms(item, inner[0]) for item in held)
    return isinstance(value, origin or hint)


def _said(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint) if not get_args(hint) else hint).replace("typing.", "")
