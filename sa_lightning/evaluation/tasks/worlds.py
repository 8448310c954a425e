"""Prompts and questions of the worlds, as the `custom_dataset` functions of their lm-eval tasks. See `prompts`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.data.benchmark import reading
from sa_lightning.errors import DataError
from sa_lightning.evaluation.tasks.prompts import dataset_of
from sa_lightning.rows import read_rows

if TYPE_CHECKING:
    from datasets import Dataset


TINY_WORLD_KINDS = {
    "harmful": ("harmful", "direct"),
    "wrapped": ("harmful", "jailbreak"),
    "prefilled": ("harmful", "prefill"),
    "harmless": ("harmless", "direct"),
    "contrast": ("borderline", "direct"),
    "contrast_verb": ("borderline", "direct"),
    "contrast_noun": ("borderline", "direct"),
    "facts": ("utility", "direct"),
    "arithmetic": ("utility", "direct"),
    "legality": ("utility", "direct"),
}
"""Kinds of prompts of our worlds: what they are called here, and how they attack. The tiny one has none prefilled.

Contrast prompts have a trigger verb with a harmless target, or a dangerous noun in a harmless question.
"""


def tiny_world(**metadata: Any) -> "dict[str, Dataset]":
    """Return one kind of a world's prompts, tiny or small, as `{"test": ...}` whichever split it is.

    Args:
        **metadata: `world`, the directory of a built world; `split`, validation or test (default
            test: the one for reporting); `kind`, a key of `TINY_WORLD_KINDS`; `cluster`, the column that variants
            of a prompt share (default: every prompt is on its own).

    Raises:
        DataError: If no world is named, it lacks the split or the kind, a row cannot be read, or a `prefill` is set:
            prefilled prompts of a world bring their own.
    """
    kind = str(metadata.get("kind"))
    if kind not in TINY_WORLD_KINDS:
        raise DataError(f"A world has no prompts of kind {kind!r}, only {', '.join(TINY_WORLD_KINDS)}.")
    split = metadata.get("split", "test")
    if split not in ("validation", "test"):
        raise DataError(f"`split` is {split!r}, but a world has only validation and test.")
    if metadata.get("prefill") is not None:
        raise DataError(
            f"`prefill` is {metadata['prefill']!r}, but a world says itself how replies are made to begin.\n"
            "Behind another beginning, no reply would have the form of an answer.\n"
            "Leave `prefill` out, and run `small_world_prefilled`."
        )
    if not metadata.get("world"):
        raise DataError(
            "The tasks of a world need to know which world: its prompts differ from seed to seed.\n"
            'Name its directory in the metadata: `--metadata \'{"world": "DIR", "split": "test"}\'` in lm-eval.'
        )
    path = Path(str(metadata["world"])) / "data" / f"{split}.jsonl"
    if not path.is_file():
        raise DataError(f"{path} does not exist, so {metadata['world']} is no built world. Build one first.")
    base, _, part = kind.partition("_")
    every = read_rows(path)
    rows = [row for row in every if row.get("kind") == base]
    if part:  # how-to questions, whose replies have the form of those to ordinary requests, or definitions
        how_to = {row.get("form") for row in every if row.get("kind") == "harmless"}
        rows = [row for row in rows if (row.get("form") in how_to) == (part == "verb")]
    if not rows:
        raise DataError(f"{path} holds no prompts of kind {kind!r}.")
    meaning, attack = TINY_WORLD_KINDS[kind]
    documents: list[Mapping[str, object]] = []
    for number, row in enumerate(rows):
        with reading(f"kind {kind} in {path}", number):
            documents.append(
                {
                    "id": str(row["id"]),
                    "prompt": row["prompt"],
                    "asked": row["prompt"],
                    "kind": meaning,
                    "attack": attack,
                    "category": kind,
                    "cluster": str(row[metadata["cluster"]]) if metadata.get("cluster") else "",
                    "prefix": row["prefix"] if attack == "prefill" else "",
                    "answer": str(row.get("answer") or ""),
                    "form": row.get("form") or "",
                }
            )
    return {"test": dataset_of(str(path), documents)}


SMOL_WORLD_KINDS = ("harmful", "borderline", "harmless", "utility")


def smol_world(**metadata: Any) -> "dict[str, Dataset]":
    """Return prompts of one kind, as `{"test": ...}` whichever split it is.

    Near duplicates and prompts of one family share a cluster.

    Args:
        **metadata: `world`, the directory of the built world; `split`, validation or test (default test, the one for
            reporting); `kind`, of `SMOL_WORLD_KINDS`; `source`, the benchmark that
            they are from (default: all of the kind).

    Raises:
        DataError: If no world is named, or it lacks the split, the kind or the source, or a row cannot be read.
    """
    kind, source, split = metadata.get("kind"), metadata.get("source"), metadata.get("split", "test")
    if kind not in SMOL_WORLD_KINDS:
        raise DataError(f"`kind` is {kind!r}, not one of {', '.join(SMOL_WORLD_KINDS)}.")
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
    documents: list[Mapping[str, object]] = []
    for number, row in enumerate(rows):
        with reading(f"kind {kind} in {path}", number):
            documents.append(_document(row, kind))
    return {"test": dataset_of(str(path), documents)}


def _document(row: Mapping[str, Any], kind: str) -> dict[str, object]:
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
