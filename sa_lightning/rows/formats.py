"""Formats of rows: JSON Lines, JSON, CSV, TSV, text, Excel and Parquet, each from a file to numbered rows.

Text formats are read with the standard library, as `datasets` and pandas change what is there: they fill in missing
keys, and turn whole numbers beside a gap into fractions.
"""

import codecs
import csv
import gzip
import io
import math
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

from sa_lightning.rows.json_text import Unreadable, loads

MOST = 1 << 30  # bytes that a file is unpacked to, or that a JSON value has
LEAST, RATIO = 1 << 24, 100  # so many bytes may always be unpacked, and more if that is no more than so many times
LONGEST = 1 << 28  # bytes of a line
ROW = 64  # bytes that a row takes at least, however short
Rows = Iterator[tuple[int, Any]]


def _open(path: Path) -> IO[bytes]:
    """Open a regular file: a pipe would have to be read twice, and may never end."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return gzip.open(path) if _is_packed(path) else path.open("rb")  # type: ignore[return-value]  # of bytes
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fact = f"cannot be opened: {said}"
        raise Unreadable(fact, remedy="Put the file there, or let yourself read it.") from error
    raise Unreadable("is no regular file", remedy="Write the rows to a file, and name it.")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _whole(path: Path) -> bytes:
    with _open(path) as file:
        content = file.read(_most(path) + 1)
    _check_size(len(content), _most(path))
    return content


def _most(path: Path, least: int = LEAST) -> int:
    """Bytes that a file may unpack to: a small one can hold what no memory has room for."""
    return min(MOST, max(least, RATIO * path.stat().st_size))


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise Unreadable(f"holds more than {most >> 20} MiB", remedy="Unpack it, or split it, if it is what you mean.")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their ends and numbers. Only a line feed ends one: U+2028 and kin may stand in any text."""
    size = 0
    with _open(path) as file:
        most = _most(path)
        for number in count(1):
            line = file.readline(LONGEST + 1)
            if not line:
                return
            size += max(len(line), ROW)
            if len(line) > LONGEST:
                raise Unreadable(f"has more than {LONGEST >> 20} MiB", f"Line {number}", "Is it another format?")
            if _is_packed(path):
                _check_size(size, most)
            yield number, _decoded(line, number)


def _decoded(line: bytes, number: int) -> str:
    """Decode a line; a byte-order mark, as spreadsheets write it, is no part of the first."""
    try:
        return (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode()
    except UnicodeDecodeError as error:
        fact = f"is not UTF-8 (byte {error.start + 1})"
        raise Unreadable(fact, f"Line {number}", "Save the file as UTF-8.") from error


def _jsonl(path: Path, names: Sequence[str]) -> Rows:
    return _values(_lines(path))


def _values(lines: Iterable[tuple[int, str]]) -> Rows:
    for number, line in lines:
        if line.strip():
            try:
                yield number, loads(line.rstrip())  # so that an error at its end is not in the next line
            except Unreadable as error:
                whole = number == 1 and line.lstrip().startswith("[") and "Expecting" in error.fact
                remedy = "It looks like one JSON list: let its name end in .json." if whole else "Mend the line."
                raise Unreadable(error.fact, f"Line {number}", remedy) from error


def _json(path: Path, names: Sequence[str]) -> Rows:
    content = _whole(path)
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        for number, line in enumerate(content.split(b"\n"), 1):
            _decoded(line, number)
        raise
    try:
        value = loads(text)
    except Unreadable as error:
        if "Extra data" not in error.fact:
            raise
        return _values(enumerate(text.split("\n"), 1))  # JSON Lines, under a name that many give them
    return enumerate(_flat(value, names), start=1)


def _flat(value: Any, names: Sequence[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield {names[0]: item} if names and not isinstance(item, dict) else item
    elif isinstance(value, dict) and names:
        for key, inner in value.items():
            for row in _flat(inner, names[1:]):
                if not isinstance(row, dict):
                    raise Unreadable(f"has {type(row).__name__} under {key[:40]!r}, where lists of rows belong")
                yield {names[0]: key, **row}
    else:
        yield value


def _csv(path: Path, names: Sequence[str], delimiter: str = ",") -> Rows:
    csv.field_size_limit(MOST)  # of the process; the default refuses texts of 131072 letters
    lines = (piece for _, line in _lines(path) for piece in io.StringIO(line, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = list(names) or next(reader, [])
        _check_header(header)
        for number, cells in enumerate(filter(None, reader), start=1):
            if len(cells) > len(header):
                fact = f"has {len(cells)} cells, where the header has {len(header)}"
                raise Unreadable(fact, f"Row {number} (line {reader.line_num})", 'Quote text that has commas: "a, b".')
            yield number, dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True))
    except csv.Error as error:
        remedy = "A cell that has quotes or line breaks stands in quotes, and quotes in it are doubled."
        raise Unreadable(f"is not CSV: {error}", f"Line {reader.line_num}", remedy) from error


def _check_header(header: Sequence[Any]) -> None:
    double = next((name for number, name in enumerate(header) if name and name in header[:number]), None)
    if double is not None:
        raise Unreadable(f"has the column {str(double)[:40]!r} twice", remedy="Give one of them another name.")


def _text(path: Path, names: Sequence[str]) -> Rows:
    pieces = (piece for _, line in _lines(path) for piece in io.StringIO(line, newline=None))
    for number, line in enumerate(pieces, 1):
        text = line.removesuffix("\n")
        if names:
            yield number, {names[0]: text}
        elif text.strip():
            yield number, text.strip()


def _xlsx(path: Path, names: Sequence[str]) -> Rows:
    import openpyxl

    with io.BytesIO(_whole(path)) if _is_packed(path) else _open(path) as file:
        with zipfile.ZipFile(file) as archive:
            _check_size(sum(entry.file_size for entry in archive.infolist()), _most(path))
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        sheet: Any = book.worksheets[0]
        sheet.reset_dimensions()  # what a file says of its size makes rows of it that are not there
        header = next(sheet.iter_rows(max_row=1, values_only=True), ())
        _check_header(header)
        for number, cells in enumerate(sheet.iter_rows(min_row=2, max_col=len(header) or 1, values_only=True), start=1):
            row = {str(name): _plain(cell) for name, cell in zip(header, cells, strict=False) if name is not None}
            if any(cell is not None for cell in row.values()):
                yield number, row


def _parquet(path: Path, names: Sequence[str]) -> Rows:
    from pyarrow import parquet

    with io.BytesIO(_whole(path)) if _is_packed(path) else _open(path) as file:
        table = parquet.ParquetFile(file)
        groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
        size = max(sum(group.total_byte_size for group in groups), ROW * table.metadata.num_rows)
        _check_size(size, _most(path, 16 * LEAST))
        _check_header(table.schema_arrow.names)
        rows = chain.from_iterable(batch.to_pylist() for batch in table.iter_batches(batch_size=1024))
        for number, row in enumerate(rows, start=1):
            yield number, _plain(row)


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it: numbers that are not there as None, bytes as UTF-8, dates as they are shown."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.decode() if isinstance(value, bytes) else str(value)


READERS: dict[str, Callable[[Path, Sequence[str]], Rows]] = {
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".jsonl": _jsonl,
    ".json": _json,
    ".txt": _text,
    ".xlsx": _xlsx,
    ".parquet": _parquet,
}
"""Endings of file names to what reads them."""
