"""Files of rows, in the formats that the field publishes data in."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.errors import DataError

Rows = Iterator[dict[str, Any]]


def read_file(path: Path, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read a file of rows; its name says in which format.

    - `.csv`: UTF-8, with or without byte-order mark; with `names`, it is read as one that has no header.
    - `.jsonl`, `.jsonl.gz`: an object a line; blank lines are skipped.
    - `.json`: a list of objects, or of strings, which `names` ends with; lists may lie in objects within objects,
      and each key on the way is a column, which `names` begins with.
    - `.txt`: a string a line, blank lines too; `names` names the one column.
    - `.xlsx`: the first sheet, its first row the header; rows without a first cell are skipped.
    - `.parquet`.

    Args:
        path: The file.
        names: Names of columns where the file has none.

    Raises:
        DataError: If the file is not what its name says, or cannot be opened.
    """
    ending = next((ending for ending in READERS if path.name.endswith(ending)), None)
    if ending is None:
        raise DataError(f"{path} ends in none of {', '.join(READERS)}, so it is not known how to read it.")
    try:
        return list(READERS[ending](path, names))
    except DataError:
        raise
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(
            f"{path} cannot be opened: {error.strerror}.\nA data set is read from files that you may read.\n"
            "Put the file there, or let yourself read it."
        ) from error
    except Exception as error:  # each library fails in ways of its own; each means that the file is damaged
        raise DataError(
            f"{path} cannot be read as {ending.removeprefix('.')}: {type(error).__name__}: {error}\n"
            "It is damaged, or another file under this name. Fetch it again."
        ) from error


def _csv(path: Path, names: Sequence[str]) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, fieldnames=list(names) or None, strict=True)


def _jsonl(path: Path, names: Sequence[str]) -> Rows:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise DataError(f"Line {number} of {path} holds no JSON object.\nEach line is one row.")
            yield row


def _json(path: Path, names: Sequence[str]) -> Rows:
    yield from _flat(json.loads(path.read_text(encoding="utf-8")), names)


def _flat(value: Any, names: Sequence[str]) -> Rows:
    if isinstance(value, dict):
        for key, inner in value.items():
            for row in _flat(inner, names[1:]):
                yield {names[0]: key, **row}
    else:
        for item in value:
            yield item if isinstance(item, dict) else {names[0]: item}


def _text(path: Path, names: Sequence[str]) -> Rows:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield {names[0]: line.rstrip("\n")}


def _xlsx(path: Path, names: Sequence[str]) -> Rows:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        header, *rows = book.worksheets[0].iter_rows(values_only=True)
    finally:
        book.close()
    for row in rows:
        if row and row[0] is not None:
            yield {str(name): cell for name, cell in zip(header, row, strict=False) if name is not None}


def _parquet(path: Path, names: Sequence[str]) -> Rows:
    from pyarrow import parquet

    yield from parquet.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path, Sequence[str]], Rows]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".json": _json,
    ".txt": _text,
    ".xlsx": _xlsx,
    ".parquet": _parquet,
}
"""Endings of file names to what reads them."""
