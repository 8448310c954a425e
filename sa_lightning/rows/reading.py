"""Rows of a file in any format, one after the other, and what is said where they cannot be read."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.files import Json
from sa_lightning.rows.formats import READERS
from sa_lightning.rows.json_text import Unreadable

WHOLE = "Rows are read all or none: a result that leaves some out would look complete."


def iter_rows(path: str | Path, names: Sequence[str] = (), otherwise: str = ".jsonl") -> Iterator[tuple[int, Any]]:
    """Yield the rows of a file, as they are needed, with their numbers from 1; its name says in which format.

    A row is what JSON can hold: its numbers are finite, and it is nested no deeper than 100 levels.

    - `.jsonl`: a value a line; blank lines are skipped, and counted. Lines end with a line feed and nothing else.
    - `.json`: a list of values, or one alone, or JSON Lines. With `names`, strings of a list become the column that
      `names` ends with; lists may lie in objects within objects, and each key on the way is a column, which `names`
      begins with.
    - `.csv`, `.tsv`: the header is no row; with `names`, there is none. Missing cells at the end are None.
    - `.txt`: a string a line, without space around it; blank lines are skipped, and counted. With `names`, which names
      the one column, each line is a row as it is.
    - `.xlsx`: the first sheet, its first row the header; rows whose named cells are all empty are skipped, and counted.
    - `.parquet`: what is no number in a column of numbers is None.

    Text is UTF-8, with or without byte-order mark. It may be gzipped (`.jsonl.gz`), and unpacks to 1 GiB at most.

    Args:
        path: The file.
        names: Names of columns where the file has none.
        otherwise: The ending that other names are read as.

    Raises:
        DataError: If the file is not what its name says, or cannot be opened; the message says where.
    """
    path = Path(path)
    ending = _ending(path) or otherwise
    try:
        yield from READERS[ending](path, names)
    except Unreadable as error:
        raise DataError(
            f"{f'{error.place} of ' if error.place else ''}{path} {error.fact}.\n"
            f"{WHOLE if error.place else 'Rows are read from one file that holds them all, and nothing else.'}\n"
            f"{error.remedy or 'Mend it, or take it out.'}"
        ) from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as gzip: {_first_line(error)}.\nIt is damaged, or another file under this name.\n"
            "Mend it, fetch it again, or take `.gz` off its name if it is not packed."
        ) from error
    except Exception as error:  # each library fails in ways of its own; each means that the file is damaged
        raise DataError(
            f"{path} cannot be read as {ending.removeprefix('.')}: {type(error).__name__}: {_first_line(error)}.\n"
            "It is damaged, or another file under this name.\nMend it, or fetch it again."
        ) from error


def read_rows(path: str | Path, names: Sequence[str] = ()) -> list[Json]:
    """Read all rows of a file whose rows are objects; formats and errors as of `iter_rows`.

    Raises:
        DataError: Also if the name ends in none of the endings, or a row is no object.
    """
    path = Path(path)
    if _ending(path) is None:
        raise DataError(
            f"{path} ends in none of {', '.join(READERS)}.\nThe ending says how a file is read.\nRename the file."
        )
    found = []
    for number, row in iter_rows(path, names):
        if not isinstance(row, dict):
            raise DataError(
                f"{place(path, number)} is no JSON object, but {type(row).__name__}.\n"
                "A row has its values under names.\nMend it, or take it out."
            )
        found.append(row)
    return found


def place(path: str | Path, number: int) -> str:
    """Return how a message names a row: `Line 3 of FILE` where a row is a line, `Row 3 of FILE` elsewhere."""
    return f"{'Line' if _ending(Path(path)) in ('.jsonl', '.txt', None) else 'Row'} {number} of {path}"


def _ending(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return next((ending for ending in READERS if name.endswith(ending)), None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")[:200]
