"""Layouts: where the rows of each benchmark keep prompt, id, category and cluster."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sa_lightning.data.benchmark import Row
from sa_lightning.data.registry import read_rows
from sa_lightning.data.table import DATASETS
from sa_lightning.errors import DataError

LAYOUTS = {name: row.layout for name, row in DATASETS.items() if row.layout is not None}
"""Data sets whose replies are judged, by name."""


def cell(row: Row, what: str | Callable[[Row], str]) -> str:
    """Return what a column holds, or a function makes of the row; empty where nothing is named or held."""
    value = (row[what] if what else "") if isinstance(what, str) else what(row)
    return "" if value is None else str(value)


def rows_of(metadata: Mapping[str, Any]) -> Sequence[Row]:
    """Read what a task's metadata name: `dataset`, and where needed the one part in its list `parts`.

    Raises:
        DataError: If they name no data set, or several parts; or as `read_rows`.
    """
    name, parts = metadata.get("dataset"), metadata.get("parts") or []
    if not isinstance(name, str):
        raise DataError(f"`dataset` is {name!r}, not a name.\nA task reads one data set.\n`sa data` lists their names.")
    if not isinstance(parts, list) or len(parts) > 1 or not all(isinstance(part, str) for part in parts):
        raise DataError(
            f"`parts` of {name} is {parts!r}, not a list of one name.\nA task reads one part of a data set.\n"
            f"`sa data {name}` lists its parts."
        )
    return read_rows(name, *parts)


def unique(name: str, documents: Sequence[Mapping[str, Any]]) -> None:
    """Refuse documents that share an id.

    Raises:
        DataError: If two do.
    """
    (id, count), *_ = Counter(document["id"] for document in documents).most_common(1) or [("", 0)]
    if count > 1:
        raise DataError(
            f"{name} has {count} documents with the id {id!r}.\nTheir replies could not be told apart.\n"
            "Take out all but one, or give each an id of its own."
        )
