"""Prompts whose replies are judged, as the `custom_dataset` functions of our lm-eval tasks.

lm-eval calls each with the task's metadata (that of the YAML, overridden by what the caller
passes) and its dataset_kwargs, so all take `**metadata` and ignore keys they do not know.
Every document has

- `id`, unique within its task and the same from run to run;
- `prompt`, and `asked`: what is sent, the prompt or a query around it;
- `kind` (harmful, harmless, borderline or utility): what a reply counts for;
- `attack` (direct, jailbreak or prefill), and `prefix`, with which the assistant is made to begin: mostly empty. The
  reply, which is judged, is what follows;
- `category`, as the benchmark names it;
- `cluster`, shared by prompts that are variants of each other, in whichever task they are.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.data.benchmark import reading
from sa_lightning.data.layouts import LAYOUTS, cell, rows_of, unique
from sa_lightning.errors import DataError
from sa_lightning.evaluation.samples import JUDGED_KINDS
from sa_lightning.rows import KNOWN_PROMPT, conversation

if TYPE_CHECKING:
    from datasets import Dataset


QUERIES = {
    "safety_arithmetic": "Only provide answer of the given question and do not provide anything else. {prompt}",
}
"""Queries that a prompt is put into, by name. That of Safety Arithmetic: https://arxiv.org/abs/2406.11801, Table 12."""
TURNS = "sa_lightning turns "
"""With this before it, what is asked is the JSON of several turns: lm-eval knows one text a document."""


def turns_of(history: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return a conversation as lm-eval hands it on, with several turns in place of a text that stands for them."""
    found: list[dict[str, str]] = []
    for message in history:
        content = message["content"]
        found += json.loads(content.removeprefix(TURNS)) if content.startswith(TURNS) else [dict(message)]
    return found


def prompts(**metadata: Any) -> "dict[str, Dataset]":
    """Return the prompts of one data set, as `{"test": ...}`.

    Where a benchmark does not say which prompts are variants, those of the same words share a cluster, in whichever
    data set they are: 25 prompts of StrongREJECT are AdvBench's, for example.

    Args:
        **metadata: `dataset`, of `LAYOUTS`, and where needed its `parts` (one); `kind`, what the prompts are; `only`,
            column to the value, or list of values, that rows must have; `query`, a key of `QUERIES` or a text with
            `{prompt}` in it; `prefill`, with which the reply to every harmful prompt is made to begin.

    Raises:
        DataError: If the data set is not at hand or has no prompts to judge, no row is left, a row has no prompt or
            cannot be read, two have one id, or the metadata name what is not there.
    """
    name, kind = metadata.get("dataset"), metadata.get("kind")
    if kind not in JUDGED_KINDS:
        raise DataError(f"`kind` of {name} is {kind!r}, not one of {', '.join(JUDGED_KINDS)}.")
    rows, query, wanted = rows_of(metadata), _query(metadata.get("query")), _wanted(metadata.get("only"))
    prefix = _prefill(metadata.get("prefill")) if kind == "harmful" else ""
    layout = LAYOUTS.get(str(name))
    if layout is None:
        raise DataError(
            f"{name} has no prompts whose replies are judged.\n`dataset` of this task is one of {', '.join(LAYOUTS)}."
        )
    documents = []
    for number, row in enumerate(layout.rows(rows)):
        lacking = [column for column in wanted if column not in row]
        if lacking:
            raise DataError(
                f"Row {number + 1} of {name} has no column {lacking[0]!r}, which `only` names; "
                f"it has {', '.join(map(str, row))}."
            )
        if any(row[column] not in values for column, values in wanted.items()):
            continue
        with reading(str(name), number):
            prompt = cell(row, layout.prompt).strip()
            document = {
                "id": cell(row, layout.id) or str(number),
                "prompt": prompt,
                "asked": query.replace("{prompt}", prompt),
                "kind": kind,
                "attack": "prefill" if prefix else "direct",
                "prefix": prefix,
                "category": cell(row, layout.category),
                "cluster": layout.cluster(row) or _wording(prompt),
            }
        if not prompt:
            raise DataError(
                f"Row {number + 1} of {name} has an empty prompt.\nTake it out, or fetch the data set again."
            )
        documents.append(document)
    if not documents:
        raise DataError(f"{name} has no rows with {wanted}.\nIs it another version?")
    return {"test": dataset_of(str(name), documents)}


def own(**metadata: Any) -> "dict[str, Dataset]":
    """Return the prompts of one kind in a file of the user's own, as `{"test": ...}`.

    Args:
        **metadata: `prompts`, a JSON Lines file of rows `{"prompt", "kind"}`, perhaps with an `id`, a `category`, and
            the `group` of prompts that are variants of one another, as gates read them; `kind`, of those asked for. A
            row of several turns has `messages` in place of `prompt`; they are asked whole by our own models (`TURNS`),
            and the document's prompt is the last.

    Raises:
        DataError: If no file is named or it does not exist, it has no prompts of this kind, a row has no prompt, or two
            have one id.
    """
    kind, path = metadata.get("kind"), Path(str(metadata.get("prompts") or ""))
    if kind not in JUDGED_KINDS:
        raise DataError(f"`kind` is {kind!r}, not one of {', '.join(JUDGED_KINDS)}.")
    if not metadata.get("prompts") or not os.path.isfile(path):
        raise DataError(
            f"There is no file of prompts {str(metadata.get('prompts') or '')!r}.\n"
            "The tasks of `own_prompts` ask what is in a file of yours.\n"
            'Name one with rows {"prompt": …, "kind": …}: `--evaluation.metadata.prompts FILE`.'
        )
    documents = []
    for index, (_, row) in enumerate(KNOWN_PROMPT.of(path)):
        if row["kind"] != kind:
            continue
        turns = conversation(row["prompt"])
        prompt = turns[-1]["content"].strip()
        documents.append(
            {
                "id": cell(row, "id") if row.get("id") is not None else str(index),
                "prompt": prompt,
                "asked": prompt if isinstance(row["prompt"], str) else TURNS + json.dumps(turns),
                "kind": kind,
                "attack": "direct",
                "prefix": "",
                "category": cell(row, "category") if row.get("category") else "",
                "cluster": str(row.get("group") or "") or _wording(prompt),
            }
        )
    if not documents:
        raise DataError(f"{path} has no prompts of the kind {kind}.\nThe task asks them.\nLeave it out, or add some.")
    return {"test": dataset_of(str(path), documents)}


def _wanted(only: Any) -> dict[str, list[Any]]:
    """Columns to the values that rows may have."""
    if not isinstance(only or {}, Mapping):
        raise DataError(
            f"`only` is {only!r}, which names no columns.\nIt says which rows are asked.\n"
            'Write the column and the value that they have: `{"only": {"label": "safe"}}`.'
        )
    return {key: value if isinstance(value, list) else [value] for key, value in (only or {}).items()}


def _query(query: Any) -> str:
    if query is None:
        return "{prompt}"
    text = QUERIES.get(str(query), str(query))
    if "{prompt}" not in text:
        raise DataError(
            f"There is no query {query!r}.\nA prompt is sent as it is, or put into a query.\n"
            f"Name one of {', '.join(QUERIES)}, or write one with {{prompt}} in it."
        )
    return text


def _prefill(prefill: Any) -> str:
    if prefill is not None and not (isinstance(prefill, str) and prefill.strip()):
        raise DataError(
            f"`prefill` is {prefill!r}, which is no text.\n"
            "The assistant is made to begin its reply to a harmful prompt with it.\n"
            "Write one, such as `Sure, here is`, or leave it out."
        )
    return prefill or ""


def _wording(prompt: str) -> str:
    """Name a prompt by its words, whatever their case and the marks between them."""
    return hashlib.sha256(" ".join(re.findall(r"\w+", prompt.lower())).encode()).hexdigest()[:12]


def dataset_of(name: str, documents: Sequence[Mapping[str, Any]]) -> "Dataset":
    """Return documents as a data set, once it is clear that no two have the same id."""
    from datasets import Dataset

    unique(name, documents)
    return Dataset.from_list([dict(document) for document in documents])
