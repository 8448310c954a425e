"""Offline twins of lm-eval's own tasks: the same documents from local files, as `custom_dataset` functions.

A document has the columns that lm-eval's task reads, so that prompts, answers and metrics are its own, beside what
every document of ours has: `id`, `prompt`, `kind`, `attack`, `category`, `cluster`. See `datasets`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sa_lightning.datamodules.registry import read_rows

if TYPE_CHECKING:
    from datasets import Dataset

Row = Mapping[str, Any]


def mmlu(**metadata: Any) -> "dict[str, Dataset]":
    """Return one subject of MMLU (https://arxiv.org/abs/2009.03300): `test`, and `dev` for demonstrations.

    Args:
        **metadata: `subject`.
    """
    subject = metadata["subject"]

    def document(row: Row) -> dict[str, Any]:
        local = "choices" not in row  # the file has a column a choice and a letter, the Hub a list and an index
        return {
            "question": row["question"],
            "subject": subject,
            "choices": [row[letter] for letter in "ABCD"] if local else list(row["choices"]),
            "answer": "ABCD".index(row["answer"]) if local else int(row["answer"]),
        }

    return {
        split: _documents(map(document, read_rows("mmlu", split, member=subject)), "question", subject)
        for split in ("test", "dev")
    }


def hellaswag(**metadata: Any) -> "dict[str, Dataset]":
    """Return the validation documents of HellaSwag (https://arxiv.org/abs/1905.07830)."""
    columns = ("activity_label", "ctx_a", "ctx_b", "endings", "label")
    rows = ({column: row[column] for column in columns} | {"label": str(row["label"])} for row in _rows(metadata))
    return {"validation": _documents(rows, "ctx_a")}


def arc(**metadata: Any) -> "dict[str, Dataset]":
    """Return the test documents of one of the two ARC sets (https://arxiv.org/abs/1803.05457).

    Args:
        **metadata: `parts`, `[challenge]` or `[easy]`.
    """

    def document(row: Row) -> dict[str, Any]:
        question, choices = row["question"], row.get("choices")
        if not isinstance(question, str):  # the authors' file: {"stem": …, "choices": [{"text": …, "label": …}]}
            choices = {key: [choice[key] for choice in question["choices"]] for key in ("text", "label")}
            question = question["stem"]
        return {"id": row["id"], "question": question, "choices": choices, "answerKey": row["answerKey"]}

    return {"test": _documents(map(document, _rows(metadata)), "question", id="id")}


def truthfulqa(**metadata: Any) -> "dict[str, Dataset]":
    """Return the multiple-choice documents of TruthfulQA (https://arxiv.org/abs/2109.07958)."""

    def targets(found: Row) -> dict[str, Any]:
        # The authors' file maps an answer to 1 or 0; the Hub has two lists.
        return dict(found) if "choices" in found else {"choices": list(found), "labels": list(found.values())}

    rows = (
        {"question": row["question"], **{key: targets(row[key]) for key in ("mc1_targets", "mc2_targets")}}
        for row in _rows(metadata)
    )
    return {"validation": _documents(rows, "question")}


def gsm8k(**metadata: Any) -> "dict[str, Dataset]":
    """Return GSM8K (https://arxiv.org/abs/2110.14168): `test`, and `train` for demonstrations."""
    return {
        split: _documents(
            ({"question": row["question"], "answer": row["answer"]} for row in read_rows("gsm8k", split)), "question"
        )
        for split in ("test", "train")
    }


def winogrande(**metadata: Any) -> "dict[str, Dataset]":
    """Return the validation documents of WinoGrande (https://arxiv.org/abs/1907.10641)."""
    columns = ("sentence", "option1", "option2", "answer")
    return {
        "validation": _documents(({column: row[column] for column in columns} for row in _rows(metadata)), "sentence")
    }


def wikitext2(**metadata: Any) -> "dict[str, Dataset]":
    """Return the articles of WikiText-2's test set (https://arxiv.org/abs/1609.07843), whole, in the column `page`."""
    lines = [row["text"].rstrip("\n") or " " for row in _rows(metadata)]  # the Hub leaves out a blank line's space
    return {"test": _documents(({"title": title, "page": page} for title, page in articles(lines)), "title")}


def articles(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Divide lines into articles; each begins at a heading of the first level with blank lines around it.

    Lines before the first heading, other than blank ones, are an article without a title.

    Yields:
        Title, and text with line ends.
    """
    padded = ["", *lines, ""]
    starts = [
        number
        for number, line in enumerate(lines)
        # A line of a paragraph can look like a heading (`= 1 / s and … = `) but has no blank lines around it.
        if re.fullmatch(r" = [^=](.*[^=])? = ?", line) and not (padded[number] + padded[number + 2]).strip()
    ]
    if any(line.strip() for line in lines[: starts[0] if starts else None]):
        starts.insert(0, 0)
    for start, end in zip(starts, [*starts, len(lines)][1:], strict=True):
        title = lines[start].strip(" =") if re.fullmatch(r" = [^=].*", lines[start]) else ""
        yield title, "".join(f"{line}\n" for line in lines[start:end])


def preferences(**metadata: Any) -> "dict[str, Dataset]":
    """Return dialogues of hh-rlhf (https://arxiv.org/abs/2204.05862) with the chosen and the rejected last reply.

    Pairs with an empty reply are left out: it has no likelihood to compare.
    """
    turn = "\n\nAssistant:"

    def pairs() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(_rows(metadata)):
            shared = os.path.commonprefix([row["chosen"], row["rejected"]])  # noqa: RUF071  # of characters, as meant
            end = shared.rfind(turn) + len(turn)
            replies = [row[side][end:].strip() for side in ("chosen", "rejected")]
            if all(replies):
                yield {"id": str(number), "dialogue": row["chosen"][:end].strip(), "choices": replies}

    return {"test": _documents(pairs(), "dialogue", id="id")}


def _rows(metadata: Mapping[str, Any]) -> Sequence[Row]:
    return read_rows(metadata["dataset"], *metadata.get("parts", ()))


def _documents(rows: Iterable[Row], prompt: str, category: str = "", *, id: str = "") -> "Dataset":
    """Add what every document of ours has; `category` is a column, or where there is none of that name, itself."""
    from datasets import Dataset

    return Dataset.from_list(
        [
            {
                **row,
                "id": str(row[id]) if id else str(number),
                "prompt": row[prompt],
                "kind": "utility",
                "attack": "direct",
                "category": str(row.get(category, category)),
                "cluster": "",
            }
            for number, row in enumerate(rows)
        ]
    )
