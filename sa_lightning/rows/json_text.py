"""JSON of others: read strictly, and refused in half a sentence."""

import json
import math
from typing import Any, NoReturn

DEEPEST = 100  # levels: deeper values could be read here and not be written elsewhere


class Unreadable(ValueError):
    """Why something cannot be read, as the end of a sentence that begins with the file.

    Args:
        fact: Such as "is not UTF-8 (byte 3)".
        place: Where in the file: "Line 3", "Row 2"; nothing if it is about the whole.
        remedy: What to change, a sentence.
    """

    def __init__(self, fact: str, place: str = "", remedy: str = "") -> None:
        super().__init__(fact)
        self.fact, self.place, self.remedy = fact, place, remedy


def loads(text: str) -> Any:
    """Return the value of a JSON text. Numbers are finite, and nothing is nested deeper than `DEEPEST`.

    Lone surrogates may be in it, as escapes: `json_line` can write them again.

    Raises:
        Unreadable: If the text is no such JSON.
    """
    try:
        value = json.loads(text, parse_constant=_constant, parse_float=_number)
    except Unreadable:
        raise
    except json.JSONDecodeError as error:
        where = f"character {error.pos + 1}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise Unreadable(f"is not JSON: {error.msg} ({where})") from error
    except ValueError as error:  # the limit of Python's int
        raise Unreadable("has an integer of thousands of digits") from error
    except RecursionError as error:
        raise Unreadable("is nested too deep") from error
    if text.count("[") + text.count("{") > DEEPEST:
        _check_depth(value)
    return value


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"has {name}, which is no JSON")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Unreadable(f"has the number {text[:40]}, which is too large")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise Unreadable("is nested too deep")
