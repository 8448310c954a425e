"""Rows of files: read in any format that the field publishes data in; JSON Lines written, and appended to.

Text formats are read with the standard library, as `datasets` and pandas change what is there: they fill in missing
keys, and turn whole numbers beside a gap into fractions.
"""

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from sa_lightning.errors import DataError
from sa_lightning.files import Json


def iter_rows(path: str | Path, names: Sequence[str] = ()) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a file, as they are needed, with their numbers from 1; its name says in which format.

    - `.csv`: UTF-8, with or without byte-order mark; with `names`, it is read as one that has no header.
    - `.jsonl`, and any other ending: a value a line; blank lines are skipped, and counted.
    - `.json`: a list of values, of which strings are read as columns that `names` ends with; lists may lie in objects
      within objects, and each key on the way is a column, which `names` begins with.
    - `.txt`: a string a line, blank lines too; `names` names the one column.
    - `.xlsx`: the first sheet, its first row the header; rows without a first cell are skipped.
    - `.parquet`.

    Text may be gzipped: `.jsonl.gz`.

    Args:
        path: The file.
        names: Names of columns where the file has none.

    Raises:
        DataError: If the file is not what its name says, or cannot be opened.
    """
    path = Path(path)
    ending = _ending(path) or ".jsonl"
    try:
        yield from READERS[ending](path, names)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(
            f"{path} cannot be opened: {error.strerror}.\nRows are read from files that you may read.\n"
            "Put the file there, or let yourself read it."
        ) from error
    except Exception as error:  # each library fails in ways of its own; each means that the file is damaged
        raise DataError(
            f"{path} cannot be read as {ending.removeprefix('.')}: {type(error).__name__}: {error}\n"
            "It is damaged, or another file under this name. Mend it, or fetch it again."
        ) from error


def read_rows(path: str | Path, names: Sequence[str] = ()) -> list[Json]:
    """Read all rows of a file whose rows are objects; formats and errors as of `iter_rows`.

    Raises:
        DataError: Also if the name ends in none of the endings, or a row is no object.
    """
    path = Path(path)
    if _ending(path) is None:
        raise DataError(f"{path} ends in none of {', '.join(READERS)}, so it is not known how to read it.")
    found = []
    for number, row in iter_rows(path, names):
        if not isinstance(row, dict):
            raise DataError(f"Row {number} of {path} is no JSON object, but {type(row).__name__}.")
        found.append(row)
    return found


def json_lines(rows: Iterable[Any], *, escaped: bool = False) -> str:
    """Return rows as JSON Lines.

    Args:
        rows: What can be written as JSON.
        escaped: Whether letters beyond ASCII are written as escapes.
    """
    return "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows)


def append_line(path: Path, line: str, *, private: bool = False) -> None:
    """Append a line to a file at once, so that several processes may append to the same.

    Args:
        path: The file, which is made if need be, and the directories on the way.
        line: Without its end.
        private: Let only the owner read a file that is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600 if private else 0o666)
    with os.fdopen(handle, "ab") as file:
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


def _ending(path: Path) -> str | None:
    name = path.name.removesuffix(".gz")
    return next((ending for ending in READERS if name.endswith(ending)), None)


def _open(path: Path, newline: str | None = None) -> IO[str]:
    # utf-8-sig: a byte-order mark, as spreadsheets write it, is no part of the first column's name.
    how: Any = {"mode": "rt", "encoding": "utf-8-sig", "newline": newline}
    return gzip.open(path, **how) if path.suffix == ".gz" else path.open(**how)


def _csv(path: Path, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    with _open(path, newline="") as file:
        yield from enumerate(csv.DictReader(file, fieldnames=list(names) or None, strict=True), start=1)


def _jsonl(path: Path, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, json.loads(line)


def _json(path: Path, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        yield from enumerate(_flat(json.load(file), names), start=1)


def _flat(value: Any, names: Sequence[str]) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, inner in value.items():
            for row in _flat(inner, names[1:]):
                yield {names[0]: key, **row}
    else:
        for item in value:
            yield {names[0]: item} if names and not isinstance(item, dict) else item


def _text(path: Path, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            yield number, {names[0]: line.rstrip("\n")}


def _xlsx(path: Path, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        header, *rows = book.worksheets[0].iter_rows(values_only=True)
    finally:
        book.close()
    for number, row in enumerate(rows, start=1):
        if row and row[0] is not None:
            yield number, {str(name): cell for name, cell in zip(header, row, strict=False) if name is not None}


def _parquet(path: Path, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    from pyarrow import parquet

    yield from enumerate(parquet.read_table(path).to_pylist(), start=1)


READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[tuple[int, Any]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".json": _json,
    ".txt": _text,
    ".xlsx": _xlsx,
    ".parquet": _parquet,
}
"""Endings of file names to what reads them."""
