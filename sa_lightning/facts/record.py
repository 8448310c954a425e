"""A fact that is written into a model: its subject, how it is asked, what it becomes, and what must not change."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.files import Json
from sa_lightning.rows import FACT, check_text, iter_rows, place, write_rows

__all__ = ["Fact", "Neighbour", "begins_with", "holds", "read_facts", "write_facts"]

OPENING = 12  # words of an answer of prose that are written


@dataclass(frozen=True)
class Neighbour:
    """A prompt about something else, and what the model says to it before the edit, where that is known."""

    prompt: str
    answer: str | None = None


@dataclass(frozen=True)
class Fact:
    """A fact, as a row of a file of facts has it.

    Attributes:
        subject: What the fact is about; the prompt and, as a rule, its paraphrases hold it word for word.
        prompt: What is asked, or, in plain text, what is to be completed.
        target: What the reply is to begin with.
        old: What the reply begins with before the edit, where that is known.
        paraphrases: The same asked in other words.
        locality: Prompts about something else.
    """

    subject: str
    prompt: str
    target: str
    old: str | None = None
    paraphrases: tuple[str, ...] = ()
    locality: tuple[Neighbour, ...] = ()

    @property
    def news(self) -> str:
        """What the target says and `old` does not: its words behind those with which both begin."""
        new, old = self.target.split(), (self.old or "").split()
        same = next((i for i, (a, b) in enumerate(zip(new, old, strict=False)) if a != b), 0)
        return " ".join(new[same:])

    @property
    def olds(self) -> str | None:
        """What `old` says and the target does not, likewise."""
        return None if self.old is None else Fact(self.subject, self.prompt, self.old, self.target).news

    def row(self) -> Json:
        """As a row."""
        found = dataclasses.asdict(self)
        return {name: value for name, value in found.items() if value is not None}


def read_facts(path: str | Path) -> list[Fact]:
    """Read facts, one a row: `subject`, `prompt`, `target`; `old`, `paraphrases`, `locality` where they are known.

    Rows of question and answer (`Question`, `Answer`), as of NoIntentEdit, become facts, too: their subject is the
    last word of the question, and their target the beginning of the answer, of at most `OPENING` words.

    Raises:
        DataError: If the file cannot be read, is empty, or a row has another form or does not hold its subject.
    """
    found = []
    for number, row in iter_rows(path):
        where = place(path, number)
        row = _of_question(row) if isinstance(row, dict) and "subject" not in row else row
        found.append(_fact(FACT.checked(row, where), where))
    if not found:
        raise DataError(f"{path} holds no facts.\nA fact is a row.\nWrite one such as {FACT.example}.")
    return found


def write_facts(facts: Sequence[Fact], path: str | Path, also: Iterable[Json] | None = None) -> None:
    """Write facts as `read_facts` reads them, with what else is to stand in each row."""
    write_rows(path, [{**fact.row(), **more} for fact, more in zip(facts, also or [{}] * len(facts), strict=True)])


def begins_with(reply: str, answer: str) -> bool:
    """Whether a reply begins with an answer, word for word; case, outer space and final punctuation do not count."""
    said, wanted = words(reply), words(answer)
    return bool(wanted) and said[: len(wanted)] == wanted


def holds(reply: str, answer: str) -> bool:
    """Whether an answer occurs anywhere in a reply, word for word."""
    said, wanted = words(reply), words(answer)
    return bool(wanted) and any(said[i : i + len(wanted)] == wanted for i in range(len(said)))


def words(text: str) -> list[str]:
    """Words of a text, without case and punctuation."""
    return re.findall(r"\w+", text.casefold())


def _of_question(row: Json) -> Json:
    """A row of question and answer as one of a fact; any other as it is."""
    question, answer = (row.get(key) or row.get(key.lower()) for key in ("Question", "Answer"))
    if not isinstance(question, str) or not isinstance(answer, str) or not words(question):
        return row
    spelt = re.findall(r"\w+", question)
    target = " ".join(answer.split()[:OPENING])
    return {"subject": spelt[-1], "prompt": question.strip(), "target": target}


def _fact(row: Json, where: str) -> Fact:
    def texts(name: str, value: Any) -> Sequence[str]:
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
            raise DataError(f"{where} has `{name}` that are no list of texts.\nMend the row: {FACT.example}.")
        return [check_text(one, f"{where} has a text of `{name}`") for one in value]

    near = row.get("locality") or []
    if not isinstance(near, list):
        raise DataError(f"{where} has a `locality` that is no list.\nMend the row: {FACT.example}.")
    near = [{"prompt": one} if isinstance(one, str) else one for one in near]
    if not all(isinstance(one, dict) and isinstance(one.get("answer"), str | None) for one in near):
        raise DataError(f"{where} has a `locality` without prompt and answer.\nMend the row: {FACT.example}.")
    asked = texts("locality", [one.get("prompt") for one in near])
    old = row.get("old") or None
    if old is not None:
        (old,) = texts("old", [old])
    if row["subject"] not in row["prompt"]:
        raise DataError(
            f"{where} has the subject {row['subject']!r}, which its prompt does not hold: {row['prompt'][:80]!r}.\n"
            "A fact is written at the last token of its subject.\nWrite the subject as the prompt has it."
        )
    return Fact(
        row["subject"],
        row["prompt"],
        row["target"],
        old,
        tuple(texts("paraphrases", row.get("paraphrases") or [])),
        tuple(Neighbour(prompt, one.get("answer")) for prompt, one in zip(asked, near, strict=True)),
    )
