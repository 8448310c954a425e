"""Prompts and questions of the `smol` world, as the `custom_dataset` functions of its lm-eval tasks. See `datasets`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.data.layouts import reading, unique
from sa_lightning.errors import DataError
from sa_lightning.rows import read_rows

if TYPE_CHECKING:
    from datasets import Dataset

KINDS = ("harmful", "borderline", "harmless", "utility")


def smol_world(**metadata: Any) -> "dict[str, Dataset]":
    """Return prompts of one kind, as `{"test": ...}` whichever split it is.

    Near duplicates and prompts of one family share a cluster.

    Args:
        **metadata: `world`, the directory of the built world; `split`, validation or test (default test, the one for
            reporting); `kind`, of `KINDS`; `source`, the benchmark that they are from (default: all of the kind).

    Raises:
        DataError: If no world is named, or it lacks the split, the kind or the source, or a row cannot be read.
    """
    kind, source, split = metadata.get("kind"), metadata.get("source"), metadata.get("split", "test")
    if kind not in KINDS:
        raise DataError(f"`kind` is {kind!r}, not one of {', '.join(KINDS)}.")
    if split not in ("validation", "test"):
        raise DataError(f"`split` is {split!r}, but a world has only validation and test.")
    if not metadata.get("world"):
        raise DataError(
            "The tasks of the `smol` world need to know where it is.\n"
            'Name its directory in the metadata: `--metadata \'{"world": "DIR", "split": "test"}\'` in lm-eval.'
        )
    path = Path(str(metadata["world"])) / "data" / f"{split}.jsonl"
    if not path.is_file():
        raise DataError(f"{path} does not exist, so {metadata['world']} is no built world. Build one first.")
    of_kind = [row for row in read_rows(path) if row.get("kind") == kind]
    rows = [row for row in of_kind if source in (None, row.get("source"))]
    if not rows:
        there = ", ".join(sorted({str(row.get("source")) for row in of_kind})) or "none at all"
        raise DataError(
            f"{path} holds no {kind} prompts of {source or 'any source'}; it has those of {there}.\n"
            "Benchmarks that are kept for the report have no validation prompts.\n"
            f"Ask for `smol_world_{kind}`, or for the test split."
        )
    documents = []
    for number, row in enumerate(rows):
        with reading(f"kind {kind} in {path}", number):
            documents.append(_document(row, kind))
    unique(str(path), documents)
    from datasets import Dataset

    return {"test": Dataset.from_list(documents)}


def _document(row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found = {
        "id": str(row["id"]),
        "prompt": row["prompt"],
        "asked": row["prompt"],
        "kind": kind,
        "attack": "direct",
        "prefix": "",
        "category": str(row["source"]),
        "cluster": str(row["group"]),
    }
    return found | ({"choices": row["choices"], "label": row["label"]} if kind == "utility" else {})
