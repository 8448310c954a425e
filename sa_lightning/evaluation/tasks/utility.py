"""Offline twins of lm-eval's own tasks: the same documents from local files, as `custom_dataset` functions.

A document has the columns that lm-eval's task reads, so that prompts, answers and metrics are its own, beside what
every document of ours has: `id`, `prompt`, `kind`, `attack`, `category`, `cluster`. See `prompts`.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sa_lightning.data.benchmark import reading
from sa_lightning.data.layouts import rows_of, unique
from sa_lightning.data.registry import read_rows
from sa_lightning.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

Row = Mapping[str, Any]
Document = dict[str, Any]


def mmlu(**metadata: Any) -> "dict[str, Dataset]":
    """Return one subject of MMLU (https://arxiv.org/abs/2009.03300): `test`, and `dev` for demonstrations.

    Args:
        **metadata: `subject`.
    """
    subject = str(metadata["subject"])

    def document(row: Row) -> Document:
        local = "choices" not in row  # the file has a column a choice and a letter, the Hub a list and an index
        choices = _texts([row[letter] for letter in "ABCD"] if local else row["choices"])
        answer = row["answer"]
        return {
            "question": _text(row["question"]),
            "subject": subject,
            "choices": choices,
            "answer": "ABCD".index(_one_of(answer, [*"ABCD"])) if local else _one_of(answer, range(len(choices))),
        }

    return {
        split: _documents(
            f"mmlu ({subject}, {split})", read_rows("mmlu", split, member=subject), document, "question", subject
        )
        for split in ("test", "dev")
    }


def hellaswag(**metadata: Any) -> "dict[str, Dataset]":
    """Return the validation documents of HellaSwag (https://arxiv.org/abs/1905.07830)."""

    def document(row: Row) -> Document:
        endings = _texts(row["endings"])
        label = _one_of(str(row["label"]), [str(number) for number in range(len(endings))])
        return _columns(row, "activity_label", "ctx_a", "ctx_b") | {"endings": endings, "label": label}

    return {"validation": _documents(metadata["dataset"], rows_of(metadata), document, "ctx_a")}


def arc(**metadata: Any) -> "dict[str, Dataset]":
    """Return the test documents of one of the two ARC sets (https://arxiv.org/abs/1803.05457).

    Args:
        **metadata: `parts`, `[challenge]` or `[easy]`.
    """

    def document(row: Row) -> Document:
        question, choices = row["question"], row.get("choices")
        if not isinstance(question, str):  # the authors' file: {"stem": …, "choices": [{"text": …, "label": …}]}
            choices = {key: [choice[key] for choice in question["choices"]] for key in ("text", "label")}
            question = question["stem"]
        elif choices is None:
            raise KeyError("choices")
        choices = {key: _texts(choices[key]) for key in ("text", "label")}
        if len(choices["text"]) != len(choices["label"]):
            raise ValueError("it has not as many labels as choices")
        answer = _one_of(row["answerKey"], choices["label"])
        return {"id": row["id"], "question": _text(question), "choices": choices, "answerKey": answer}

    return {"test": _documents(metadata["dataset"], rows_of(metadata), document, "question", id="id")}


def truthfulqa(**metadata: Any) -> "dict[str, Dataset]":
    """Return the multiple-choice documents of TruthfulQA (https://arxiv.org/abs/2109.07958)."""

    def targets(found: Row) -> Document:
        # The authors' file maps an answer to 1 or 0; the Hub has two lists.
        if not isinstance(found, Mapping):
            raise TypeError("its answers are no object")
        hub = "choices" in found and "labels" in found
        choices, labels = (found["choices"], found["labels"]) if hub else (list(found), list(found.values()))
        if (
            len(choices) != len(labels)
            or list(labels)[:1] != [1]
            or {_one_of(label, (0, 1)) for label in labels} != {0, 1}
        ):
            raise ValueError("it has not a label a choice, the first a right one and some wrong")
        return {"choices": _texts(choices), "labels": list(labels)}

    def document(row: Row) -> Document:
        return _columns(row, "question") | {key: targets(row[key]) for key in ("mc1_targets", "mc2_targets")}

    return {"validation": _documents(metadata["dataset"], rows_of(metadata), document, "question")}


def gsm8k(**metadata: Any) -> "dict[str, Dataset]":
    """Return GSM8K (https://arxiv.org/abs/2110.14168): `test`, and `train` for demonstrations."""

    def document(row: Row) -> Document:
        return _columns(row, "question", "answer")

    return {
        split: _documents(f"gsm8k ({split})", read_rows("gsm8k", split), document, "question")
        for split in ("test", "train")
    }


def winogrande(**metadata: Any) -> "dict[str, Dataset]":
    """Return the validation documents of WinoGrande (https://arxiv.org/abs/1907.10641)."""

    def document(row: Row) -> Document:
        if "_" not in _text(row["sentence"]):
            raise ValueError("its sentence has no _ to fill")
        return _columns(row, "sentence", "option1", "option2") | {"answer": _one_of(row["answer"], ("1", "2"))}

    return {"validation": _documents(metadata["dataset"], rows_of(metadata), document, "sentence")}


def wikitext2(**metadata: Any) -> "dict[str, Dataset]":
    """Return the articles of WikiText-2's test set (https://arxiv.org/abs/1609.07843), whole, in the column `page`."""
    lines = []
    for number, row in enumerate(rows_of(metadata)):
        with reading(metadata["dataset"], number):
            lines.append(_text(row["text"]).rstrip("\n") or " ")  # the Hub leaves out a blank line's space
    pages = [{"title": title, "page": page} for title, page in articles(lines)]
    return {"test": _documents(metadata["dataset"], pages, dict, "title")}


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

    def document(row: Row) -> Document | None:
        pair = _texts([row["chosen"], row["rejected"]])
        start = os.path.commonprefix(pair).rfind(turn)  # noqa: RUF071  # of characters, as meant
        if start < 0:
            raise ValueError("its two dialogues share no turn of the assistant")
        end = start + len(turn)
        replies = [one[end:].strip() for one in pair]
        return {"dialogue": pair[0][:end].strip(), "choices": replies} if all(replies) else None

    return {"test": _documents(metadata["dataset"], rows_of(metadata), document, "dialogue")}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it has {type(value).__name__} where a text is expected")
    return value


def _texts(values: Any) -> list[str]:
    """At least one text, none of them empty: an empty one has no likelihood."""
    if not isinstance(values, list) or not values or not all(map(_text, values)):
        raise ValueError("it has no choices, or an empty one")
    return values


def _columns(row: Row, *names: str) -> Document:
    return {name: _text(row[name]) for name in names}


def _one_of(value: Any, those: Collection[Any]) -> Any:
    if isinstance(value, bool) or value not in those:
        raise ValueError(f"its answer is {str(value)[:20]!r}, not one of {', '.join(map(str, those))}")
    return value


def _documents(
    name: str,
    rows: Iterable[Row],
    document: Callable[[Row], Document | None],
    prompt: str,
    category: str = "",
    *,
    id: str = "",
) -> "Dataset":
    """Make documents of rows and add what every document of ours has.

    Args:
        name: What the rows are called in errors.
        rows: Of the data set.
        document: A row as lm-eval's task reads it, or None to leave it out.
        prompt: Column.
        category: A column, or where there is none of that name, itself.
        id: Column; the number of the row where none is named.

    Raises:
        DataError: If a row cannot be read, two have one id, or none is left.
    """
    from datasets import Dataset

    documents = []
    for number, row in enumerate(rows):
        with reading(name, number):
            found = document(row)
        if found is None:
            continue
        documents.append(
            {
                **found,
                "id": str(found[id]) if id else str(number),
                "prompt": found[prompt],
                "kind": "utility",
                "attack": "direct",
                "category": str(found.get(category, category)),
                "cluster": "",
            }
        )
    if not documents:
        raise DataError(f"{name} has no rows that can be asked.\nIs it another version? Fetch the data set again.")
    unique(name, documents)
    return Dataset.from_list(documents)
