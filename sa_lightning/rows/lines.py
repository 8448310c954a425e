"""JSON Lines: written whole or appended to, UTF-8 always, and read by nobody else where they hold replies."""

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.files import write_whole

REPLIES = frozenset({"response", "replies", "reply", "answer", "answers", "completion"})
"""Keys whose values are what a model said, perhaps to a harmful prompt."""


def holds_replies(row: Any) -> bool:
    """Say whether only its owner should read a row: it has what a model said, as one of its keys."""
    return isinstance(row, Mapping) and not REPLIES.isdisjoint(row)


def json_line(row: Any, *, escaped: bool = False, finite: bool = False) -> str:
    """Return a row as JSON without an end of line.

    Args:
        row: What can be written as JSON.
        escaped: Whether letters beyond ASCII are written as escapes. Lone surrogates always are.
        finite: Whether NaN and infinity, which are no JSON, are refused.

    Raises:
        ValueError: If such a number is refused.
    """
    text = json.dumps(row, ensure_ascii=escaped, allow_nan=not finite)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold as an escape alone
        return json.dumps(row, allow_nan=not finite)
    return text


def json_lines(rows: Iterable[Any], *, escaped: bool = False) -> str:
    """Return rows as JSON Lines, each as of `json_line`."""
    return "".join(json_line(row, escaped=escaped) + "\n" for row in rows)


def write_rows(path: str | Path, rows: Iterable[Any]) -> None:
    """Write rows as JSON Lines, whole or not at all; for their owner alone if one holds replies, or none is there."""
    kept = list(rows)
    write_whole(path, json_lines(kept), private=not kept or any(map(holds_replies, kept)))


def append_row(path: Path, row: Any) -> None:
    """Append a row at once; only its owner may read the file if it holds replies."""
    append_line(path, json_line(row, escaped=True), private=holds_replies(row))


def append_line(path: Path, line: str, *, private: bool = False) -> None:
    """Append a line to a file at once, so that several processes may append to the same.

    Args:
        path: The file, which is made if need be, and the directories on the way.
        line: Without its end.
        private: Let only the owner read the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600 if private else 0o666)
    with os.fdopen(handle, "ab") as file:
        if private and stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
            with contextlib.suppress(PermissionError):  # it is another's, who lets us write to it
                os.fchmod(handle, 0o600)
        file.write((line + "\n").encode())


def ended_lines(path: Path, start: int = 0) -> list[bytes]:
    """Return the lines of a file from a byte on, without what a kill has cut short; none if there is no file."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(start)
        return file.read().split(b"\n")[:-1]


def cut_tail(path: Path, key: str) -> None:
    """Cut off the half line that a kill has left at the end of a file, so that the next line stands on its own.

    Args:
        path: The file, if there is one.
        key: The first of the objects that its lines are.

    Raises:
        DataError: If its lines are others: nothing of anybody's is cut off.
    """
    check_lines(path, key)
    if path.is_file():
        written = path.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            os.truncate(path, whole)


def check_lines(path: Path, key: str) -> None:
    """Refuse a file whose first line does not begin as ours do, as far as a kill has let it come; none is fine.

    Raises:
        DataError: With how ours begin.
    """
    if not os.path.lexists(path):
        return
    begins = f'{{"{key}"'.encode()
    first = b"?"
    if path.is_file():
        with path.open("rb") as file:
            first = file.read(len(begins))
    if first != begins[: len(first)]:
        raise DataError(
            f"{path} exists already, and does not begin with {begins.decode()}: it is not this program's.\n"
            "Lines would be added to it, or cut off.\nMove it away, or choose another place."
        )
