"""Prompts to evaluate on, as the `custom_dataset` functions of our lm-eval tasks.

lm-eval calls each with the task's metadata (that of the YAML, overridden by what the caller
passes) and its dataset_kwargs, so all take `**metadata` and ignore keys they do not know.
Every document has `id`, `prompt`, `kind` (harmful, harmless, borderline or utility) and
`attack` (direct or jailbreak): what the harness needs to classify a reply.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

TINY_WORLD_KINDS = {
    "harmful": ("harmful", "direct"),
    "wrapped": ("harmful", "jailbreak"),
    "harmless": ("harmless", "direct"),
    "contrast": ("borderline", "direct"),
    "facts": ("utility", "direct"),
    "arithmetic": ("utility", "direct"),
    "legality": ("utility", "direct"),
}
"""The tiny world's kinds of prompts: what they are called here, and whether they are wrapped."""


@dataclass(frozen=True)
class Source:
    """Where a data set of the field lies, on disk and on the Hub.

    Args:
        file: Name of the file in `$SA_DATA_DIR/<name>/`.
        columns: Columns that the file must have.
        hub_id: Data set on the Hugging Face Hub.
        hub_split: Its split.
        revision: Its revision; `main` moves, so `SOURCE.txt` beside local files names what was read.
        licence: Of the prompts.
        renamed: The Hub's name of a column to the file's.
    """

    file: str
    columns: tuple[str, ...]
    hub_id: str
    hub_split: str
    revision: str
    licence: str
    renamed: Mapping[str, str] = field(default_factory=dict)


SOURCES = {
    "advbench": Source(
        "harmful_behaviors.csv", ("goal",), "walledai/AdvBench", "train", "main", "MIT", {"prompt": "goal"}
    ),
    "xstest": Source(
        "xstest_prompts.csv", ("id", "prompt", "type", "label"), "Paul/XSTest", "train", "main", "CC-BY-4.0"
    ),
}


def tiny_world(**metadata: Any) -> "dict[str, Dataset]":
    """Return one kind of the tiny world's prompts, as `{"test": ...}` whichever split it is.

    Args:
        **metadata: `world`, the directory of a built world; `split`, validation or test (default
            test: the one for reporting); `kind`, a key of `TINY_WORLD_KINDS`.

    Raises:
        DataError: If no world is named, or it lacks the split or the kind.
    """
    kind = metadata.get("kind")
    if kind not in TINY_WORLD_KINDS:
        raise DataError(f"The tiny world has no prompts of kind {kind!r}, only {', '.join(TINY_WORLD_KINDS)}.")
    split = metadata.get("split", "test")
    if split not in ("validation", "test"):
        raise DataError(f"`split` is {split!r}, but the tiny world has only validation and test.")
    if not metadata.get("world"):
        raise DataError(
            "The tiny world's tasks need to know which world: its prompts differ from seed to seed.\n"
            'Name its directory in the metadata: `--metadata \'{"world": "DIR", "split": "test"}\'` in lm-eval.'
        )
    path = Path(metadata["world"]) / "data" / f"{split}.jsonl"
    if not path.is_file():
        raise DataError(f"{path} does not exist, so {metadata['world']} is no built tiny world. Build one first.")
    with path.open(encoding="utf-8") as lines:
        rows = [row for line in lines if line.strip() and (row := json.loads(line))["kind"] == kind]
    if not rows:
        raise DataError(f"{path} holds no prompts of kind {kind!r}.")
    meaning, attack = TINY_WORLD_KINDS[kind]
    return _documents(
        {
            "id": str(row["id"]),
            "prompt": row["prompt"],
            "kind": meaning,
            "attack": attack,
            "category": kind,
            "answer": str(row.get("answer") or ""),
            "form": row.get("form") or "",
        }
        for row in rows
    )


def advbench(**metadata: Any) -> "dict[str, Dataset]":
    """Return the 520 harmful behaviours of AdvBench (https://arxiv.org/abs/2307.15043)."""
    return _documents(
        {"id": str(index), "prompt": row["goal"], "kind": "harmful", "attack": "direct", "category": ""}
        for index, row in enumerate(read_rows("advbench"))
    )


def xstest(**metadata: Any) -> "dict[str, Dataset]":
    """Return one half of XSTest (https://arxiv.org/abs/2308.01263).

    Args:
        **metadata: `half`, `safe` (250 prompts that only look unsafe: borderline) or `unsafe`
            (200 contrasts: harmful).
    """
    half = metadata.get("half")
    if half not in ("safe", "unsafe"):
        raise DataError(f"XSTest has the halves safe and unsafe, not {half!r}.")
    kind = "borderline" if half == "safe" else "harmful"
    return _documents(
        {
            "id": str(row["id"]),
            "prompt": row["prompt"],
            "kind": kind,
            "attack": "direct",
            "category": row["type"].removeprefix("contrast_"),
        }
        for row in read_rows("xstest")
        if row["label"] == half
    )


def read_rows(name: str) -> list[Mapping[str, Any]]:
    """Read a data set of the table: `$SA_DATA_DIR/<name>/<file>` first, then the Hub.

    Raises:
        DataError: If it is in neither place, or lacks a column.
    """
    source = SOURCES[name]
    directory = os.environ.get("SA_DATA_DIR")
    path = Path(directory or "", name, source.file)
    if directory and path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[Mapping[str, Any]] = list(csv.DictReader(file))
        where = str(path)
    else:
        rows, where = _from_hub(name, source), f"{source.hub_id} on the Hub"
    missing = [column for column in source.columns if not rows or column not in rows[0]]
    if missing:
        raise DataError(f"{where} lacks the columns {missing}, or has no rows. Is it another version of {name}?")
    return rows


def _from_hub(name: str, source: Source) -> list[Mapping[str, Any]]:
    from datasets import load_dataset

    try:
        loaded: Any = load_dataset(source.hub_id, split=source.hub_split, revision=source.revision)
    except Exception as error:  # the Hub fails in a dozen ways; each means that the set is not at hand
        directory = os.environ.get("SA_DATA_DIR")
        raise DataError(
            f"The data set {name} ({source.licence}) is not at hand. Two ways to get it:\n"
            f"  1. put {source.file} in $SA_DATA_DIR/{name}/ "
            f"(SA_DATA_DIR is {directory if directory else 'not set'});\n"
            f"  2. let it come from the Hugging Face Hub ({source.hub_id}): be online, without HF_HUB_OFFLINE, "
            "and log in with `hf auth login` where the set is gated.\n"
            f"The Hub answered: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    return [{source.renamed.get(column, column): value for column, value in row.items()} for row in loaded]


def _documents(rows: Any) -> "dict[str, Dataset]":
    from datasets import Dataset

    documents: Sequence[dict[str, Any]] = list(rows)
    return {"test": Dataset.from_list(list(documents))}
