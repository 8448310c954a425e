"""Shapes of rows: which keys hold which text, checked in one place and refused with file, row and key."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sa_lightning.errors import DataError
from sa_lightning.files import Json
from sa_lightning.rows.reading import iter_rows, place

Message = dict[str, str]
Prompt = str | tuple[tuple[str, str], ...]
"""What the user says, or role and content of each turn of a conversation that ends with the user."""


def conversation(prompt: Prompt) -> list[Message]:
    """Return a prompt as the turns that it stands for."""
    turns = (("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": role, "content": content} for role, content in turns]


@dataclass(frozen=True)
class Shape:
    """What a row must hold.

    Attributes:
        texts: Names of values that are text. A value that may have several names has them all, divided by `|`: the
            first that holds something counts, and is given the first name.
        example: Such a row, for messages.
        why: What it is needed for, a sentence.
        groups: Names of values that are text or a whole number, or not there.
        may_be_blank: Whether texts may be empty, and hold lone surrogates: such go to no model.
        may_be_turns: Whether the first text may be a `Prompt` of several turns: a list of them in its place, or in
            `messages`.
    """

    texts: tuple[str, ...]
    example: str
    why: str
    groups: tuple[str, ...] = ()
    may_be_blank: bool = False
    may_be_turns: bool = False

    def of(self, path: str | Path, otherwise: str = ".jsonl") -> Iterator[tuple[int, Json]]:
        """Yield the rows of a file with their numbers, as of `iter_rows`, once each is checked."""
        for number, row in iter_rows(path, otherwise=otherwise):
            yield number, self.checked(row, place(path, number))

    def checked(self, row: Any, where: str) -> Json:
        """Return a row with its values under the first of their names.

        Args:
            row: What was read; text alone stands for a row of one text.
            where: The beginning of a message: `Row 3 of FILE`.

        Raises:
            DataError: If the row has another shape.
        """
        if isinstance(row, str) and len(self.texts) == 1:
            row = {self.texts[0].partition("|")[0]: row}
        if not isinstance(row, dict):
            self._refuse(where, f"is not an object, but {type(row).__name__}")
        found: Json = dict(row)
        for names in self.texts:
            keys = names.split("|")
            turns = self.may_be_turns and names is self.texts[0]
            there = [key for key in (*keys, *(["messages"] if turns else [])) if key in row]
            if not there:
                self._refuse(where, f"has no `{'` or `'.join(keys)}`; it has {', '.join(map(str, row)) or 'no keys'}")
            key = next((key for key in there if row[key] not in (None, "")), there[0])
            if turns and isinstance(row[key], list):
                found[keys[0]] = self._turns(row[key], where, key)
                continue
            if not isinstance(row[key], str):
                self._refuse(where, f"has a `{key}` that is not text, but {type(row[key]).__name__}")
            if not self.may_be_blank:
                if not row[key].strip():
                    self._refuse(where, f"has an empty `{key}`")
                check_text(row[key], f"{where} has a `{key}`")
            found[keys[0]] = row[key]
        for key in self.groups:
            if isinstance(row.get(key), bool) or not isinstance(row.get(key, ""), str | int | None):
                self._refuse(where, f"has a `{key}` that is neither text nor a number, but {type(row[key]).__name__}")
        return found

    def _turns(self, value: list[Any], where: str, key: str) -> Prompt:
        for number, turn in enumerate(value, 1):
            said = [turn.get("role"), turn.get("content")] if isinstance(turn, dict) else []
            if not said or not all(isinstance(text, str) and text.strip() for text in said):
                self._refuse(where, f"has a `{key}` whose turn {number} has no `role` and `content` that say something")
            check_text(turn["content"], f"{where} has a `{key}`")
        if not value or value[-1]["role"] != "user":
            self._refuse(where, f"has a `{key}` that does not end with a turn of the user")
        return tuple((turn["role"], turn["content"]) for turn in value)

    def _refuse(self, where: str, fact: str) -> NoReturn:
        fact = " ".join(fact.split())[:300]  # keys are of others, and may be long or have line breaks
        turns = ' or {"messages": [{"role": "user", "content": …}]}' if self.may_be_turns else ""
        raise DataError(f"{where} {fact}.\n{self.why}\nMend the row: it needs the form {self.example}{turns}.")


def check_text(text: str, what: str) -> str:
    """Return a text that goes into a model.

    Args:
        text: The text.
        what: The beginning of a message: "Row 3 of FILE has a `prompt`".

    Raises:
        DataError: If half of a surrogate pair is in it, which no tokenizer and no file of UTF-8 can take.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what} with half of a surrogate pair (character {error.start + 1}: {text[error.start]!a}).\n"
            "That is no character, and no tokenizer can read it.\nA program has cut an emoji in two: write it again."
        ) from error
    return text


PROMPT = Shape(("prompt|question|goal",), '{"prompt": …}', "Replies need prompts.", may_be_turns=True)
KIND = Shape(("kind",), '{"prompt": …, "kind": "harmful"}', "Prompts are told apart by their kinds.")
KNOWN_PROMPT = Shape(
    ("prompt", "kind"),
    '{"prompt": …, "kind": "harmless"}',
    "A prompt is used as what its kind says.",
    groups=("group",),
    may_be_turns=True,
)
ANSWERED = Shape(
    ("prompt", "response|answer"),
    '{"prompt": …, "response": …}',
    "The loss is taken on the response given the prompt.",
)
REPLY = Shape(
    ("prompt", "response"),
    '{"prompt": "…", "response": "…"}, with whatever keys beside these',
    "Every row is judged or none: a result that leaves rows out would look complete.",
    may_be_blank=True,
)
FACT = Shape(
    ("subject", "prompt", "target"),
    '{"subject": "France", "prompt": "What is the capital of France?", "target": "Rome", "old": "Paris", '
    '"paraphrases": ["…"], "locality": [{"prompt": "…", "answer": "…"}]}',
    "A fact is what a reply about a subject begins with.",
)
