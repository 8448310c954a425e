"""Regular expressions out of files: matched within a limit of time, or refused where they could run for ever."""

import json
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from re import _constants as op  # pyright: ignore[reportAttributeAccessIssue]  what `re` itself parses with
from re import _parser as parser  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any

SECONDS = 5.0  # for a few thousand names, with the start of the process
PLAIN = re.compile(r"[\w.-]*")  # nothing in it can be matched in more than one way
MATCHING = """
import json, re, sys
patterns, form, names = json.load(sys.stdin)
found = [(pattern, re.compile(form.replace("PATTERN", pattern))) for pattern in patterns]
json.dump({name: next((p for p, regex in found if regex.match(name)), None) for name in names}, sys.stdout)
"""


def first_match(patterns: Sequence[str], names: Iterable[str], form: str = "PATTERN") -> dict[str, str | None]:
    """Return, for each name, the first pattern that matches it from its beginning, or None.

    A pattern such as `(a+)+!` takes longer than anyone waits, and nothing stops `re` within the process that runs it.

    Args:
        patterns: Regular expressions of Python.
        names: What they are matched against.
        form: What each pattern is part of, in place of `PATTERN`.

    Raises:
        ValueError: If a pattern is none, or all of them take longer than `SECONDS` together.
    """
    names = list(names)
    if all(PLAIN.fullmatch(pattern) for pattern in patterns):
        found = [(pattern, re.compile(form.replace("PATTERN", pattern))) for pattern in patterns]
        return {name: next((pattern for pattern, regex in found if regex.match(name)), None) for name in names}
    try:
        done = subprocess.run(  # nothing but our own program runs; patterns and names are its input
            [sys.executable, "-I", "-S", "-c", MATCHING],
            input=json.dumps([list(patterns), form, names]).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"a pattern that takes more than {SECONDS:g} s to match") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise ValueError(f"a pattern that Python cannot match ({reason})") from None
    return json.loads(done.stdout)


LONGEST = 1000  # characters of a pattern
MOST = 1000  # times that a counted repeat may come to, nested ones multiplied
FEW = 4  # times that a repeat of varying length may be repeated
#: Most repeats of varying length, those among them of almost any character, and parts that may be absent.
LIMITS = {"repeats": 6, "repeats of almost any character": 3, "optional parts": 16}

_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)


class _RefusedError(Exception):
    """Why a pattern is refused."""


def why_refused(pattern: object) -> str | None:
    """Say why a regular expression from a file is not to be used; None where it may be.

    Python's engine tries every way to match. Where a repeat of varying length is itself repeated, as in `(a+)+!`, the
    ways double with each character, and one line of text takes hours. Such a pattern can nearly always be written
    without, so it is refused by its form, with no need to see a text. What remains takes time that grows with a small
    power of the text's length.

    Returns:
        A clause for an error message, such as "it repeats a repeat".

    Example:
        >>> why_refused(r"#### (-?[0-9.,]+)")
        >>> why_refused(r"(([a-z_.0-9])+)+!")
        'a repeat of varying length is repeated in it, which can take hours on one line'
    """
    if not isinstance(pattern, str):
        return f"it is no text but {type(pattern).__name__}"
    if len(pattern) > LONGEST:
        return f"it has {len(pattern)} characters, more than {LONGEST}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
            tree = parser.parse(pattern)
        counts = _repeats(tree, 1, many=False)
    except _RefusedError as why:
        return str(why)
    except (re.error, RecursionError, OverflowError) as error:
        return f"it is no regular expression: {error}"
    return next((f"it has more than {most} {what}" for what, most in LIMITS.items() if counts[what] > most), None)


def _repeats(tree: Any, times: int, *, many: bool) -> Counter[str]:
    """Count what can match in several ways: the keys of `LIMITS`.

    Args:
        tree: What `re` parses a pattern, or a part of one, into.
        times: How often this part is repeated at most, as far as that is counted.
        many: Whether it stands within a repeat of more than a few times.
    """
    found: Counter[str] = Counter()
    for kind, value in tree:
        if kind in _REPEATS:
            low, high, body = value
            if many and high > low:
                raise _RefusedError("a repeat of varying length is repeated in it, which can take hours on one line")
            copies = max(1, low if high == op.MAXREPEAT else high)
            if times * copies > MOST:
                raise _RefusedError(f"a repeat in it counts to more than {MOST}")
            if high > low:
                found["repeats" if high > 1 else "optional parts"] += times
                found["repeats of almost any character"] += times * (high > 1 and _is_wide(body))
            found += _repeats(body, times * copies, many=many or high > FEW)
        elif kind is op.BRANCH:
            if many and not _differ(value[1]):
                raise _RefusedError("alternatives that can begin alike are repeated in it, which can take hours")
            found["optional parts"] += (times - 1) * (len(value[1]) - 1)
            for alternative in value[1]:
                found += _repeats(alternative, times, many=many)
        elif kind in (op.GROUPREF, op.GROUPREF_EXISTS) and many:
            raise _RefusedError("it repeats a reference to a group")
        elif isinstance(value, tuple):  # groups, and what is looked for ahead or behind
            for part in value:
                if isinstance(part, parser.SubPattern):
                    found += _repeats(part, times, many=many)
        elif isinstance(value, parser.SubPattern):
            found += _repeats(value, times, many=many)
    return found


def _is_wide(body: Any) -> bool:
    """Whether a part takes almost any character: `.`, `[^…]`."""
    return any(
        kind in (op.ANY, op.NOT_LITERAL)
        or (kind is op.IN and value[0][0] is op.NEGATE)
        or (kind is op.SUBPATTERN and _is_wide(value[-1]))
        for kind, value in body
    )


def _differ(alternatives: Any) -> bool:
    """Whether no two alternatives can begin with the same character."""
    seen: set[str] = set()
    for alternative in alternatives:
        first = _first(alternative)
        if not first or seen & first:
            return False
        seen |= first
    return True


def _first(tree: Any) -> set[str]:
    """The characters that a part can begin with, in lower case; empty where that is not easily told."""
    if not len(tree):
        return set()
    kind, value = tree[0]
    if kind is op.SUBPATTERN:
        return _first(value[-1])
    members = [(kind, value)] if kind is op.LITERAL else value if kind is op.IN else []
    found: set[str] = set()
    for member, characters in members:
        if member is op.LITERAL:
            found.add(chr(characters).lower())
        elif member is op.RANGE and characters[1] - characters[0] < 256:
            found |= {chr(code).lower() for code in range(characters[0], characters[1] + 1)}
        else:
            return set()
    return found
