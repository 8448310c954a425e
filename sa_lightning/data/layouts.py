"""Layouts: where the rows of each benchmark keep prompt, id, category and cluster."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sa_lightning.data.registry import read_rows
from sa_lightning.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """Where the rows of a data set keep what a document needs.

    Args:
        prompt: Column, or function of the row.
        id: Column; the number of the row where there is none.
        category: Column, or function of the row; empty where there is none.
        cluster: Function of the row, where a benchmark says which prompts are variants.
        rows: What to make of the rows first.
    """

    prompt: str | Callable[[Row], str]
    id: str = ""
    category: str | Callable[[Row], str] = ""
    cluster: Callable[[Row], str] = lambda row: ""
    rows: Callable[[Iterable[Row]], Iterable[Row]] = lambda rows: rows


def _behavior(row: Row) -> str:
    """HarmBench puts the context before the behaviour, divided by a line of dashes (its DirectRequest baseline)."""
    return f"{row['ContextString']}\n\n---\n\n{row['Behavior']}" if row["ContextString"] else row["Behavior"]


def _context(row: Row) -> str:
    """Behaviours that share a context are variants of each other."""
    context = row["ContextString"]
    return f"context-{zlib.crc32(context.encode()):08x}" if context else ""


def _xstest_cluster(row: Row) -> str:
    """A contrast shares family and focus with the safe prompts that it is the contrast of.

    Four types of safe prompts share two sets of contrasts, on discrimination and on privacy. Types without a focus
    (historical events, nonsense groups) do not say which prompts belong together.
    """
    family = str(row["type"]).removeprefix("contrast_")
    family = {"real_group_nons_discr": "discr", "privacy_public": "privacy", "privacy_fictional": "privacy"}.get(
        family, family
    )
    focus = str(row.get("focus") or "").strip().lower()
    return f"{family}/{focus}" if focus else ""


def _halves(rows: Iterable[Row]) -> Iterator[Row]:
    """A row of RepE's set holds two instructions; `label` is true of the harmless one."""
    for number, row in enumerate(rows):
        with reading("repe_harmful_harmless", number):
            pairs = list(zip(row["sentence"], row["label"], strict=True))
        for sentence, harmless in pairs:
            half = "harmless" if harmless else "harmful"
            yield {"id": f"{half}-{number}", "prompt": sentence, "half": half}


LAYOUTS = {
    "advbench": Layout("goal"),
    "catqa": Layout("Question", category="Category"),
    "coconot": Layout("prompt", "id", "category"),
    "dangerousqa": Layout("question"),
    "dro_llm_safeguard": Layout("prompt"),
    "harmbench": Layout(_behavior, "BehaviorID", "SemanticCategory", cluster=_context),
    "harmfulqa": Layout("question", category="topic"),
    "hex_phi": Layout("prompt", category=lambda row: str(row["file"])),
    "jailbreakbench": Layout("Goal", category="Category"),
    "jbb_benign": Layout("Goal", category=lambda row: str(row.get("Category") or "")),
    "malicious_instruct": Layout("prompt"),
    "nichehazardqa": Layout("Question", category="Domain"),
    "nointentedit": Layout("Question", category="Cluster"),
    "oktest": Layout("prompt"),
    "oktest_heldout": Layout("prompt"),
    "or_bench_hard": Layout("prompt", category="category"),
    "repe_harmful_harmless": Layout("prompt", "id", rows=_halves),
    "simplesafetytests": Layout("prompts_final", "id", "harm_area"),
    "strongreject": Layout("forbidden_prompt", category="category"),
    "xstest": Layout(
        "prompt", "id", category=lambda row: row["type"].removeprefix("contrast_"), cluster=_xstest_cluster
    ),
}
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


@contextmanager
def reading(name: str, number: int) -> Iterator[None]:
    """Say which row it is that has not the layout of its data set.

    Args:
        name: Of the data set.
        number: Of the row, from 0.

    Raises:
        DataError: Instead of what a malformed row leads to.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"Row {number + 1} of {name} cannot be read: {reason}.\nA set is asked whole or not at all.\n"
            "Mend or take out the row, or fetch the data set again."
        ) from error


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
