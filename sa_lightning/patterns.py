"""Regular expressions out of files: matched in a process of their own, which has a limit of time."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

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
