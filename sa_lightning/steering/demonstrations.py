"""Contrastive pairs as plain records: a conversation answered safely and unsafely, or two questions."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from sa_lightning.errors import DataError
from sa_lightning.files import Json
from sa_lightning.rows import KIND, check_text, iter_rows, place

Message = dict[str, str]

FORMATS = (
    '{"question": …, "safe": …, "unsafe": …} (also `prompt` for `question`), '
    '{"chosen": …, "rejected": …} (transcripts with Human:/Assistant: turns, or lists of messages), '
    '{"harmless": …, "harmful": …} (questions alone, to be read before they are answered), '
    '{"prompt": …, "kind": …} (questions of the kinds `harmless` and `harmful`, one a row)'
)
TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


class _Incomplete(DataError):
    """A row that lacks one of its three parts."""


@dataclass(frozen=True)
class Demonstration:
    """One contrastive pair.

    Attributes:
        conversation: The turns before the answer, the last one by the user; none where the members are questions.
        safe: The answer to move towards, or the harmless question.
        unsafe: The answer to move away from, or the harmful question.
        role: Who says the two.
        place: Where it was read: `FILE, row N`.
    """

    conversation: tuple[Message, ...]
    safe: str
    unsafe: str
    role: str = "assistant"
    place: str = field(default="", compare=False)

    def messages(self, side: str) -> list[Message]:
        """Return the whole conversation, ended by the `safe` or the `unsafe` member."""
        return [*self.conversation, {"role": self.role, "content": getattr(self, side)}]


def read_demonstrations(
    path: str | Path, limit: int | None = None, skip_incomplete: bool = False
) -> tuple[list[Demonstration], int]:
    """Read pairs from a file in any format of `rows`; the columns tell what a pair is.

    Args:
        path: File with columns `question`/`prompt`, `safe`, `unsafe`, or `chosen` (safe) and
            `rejected` (unsafe) as in hh-rlhf, or questions alone in `harmless` (safe) and `harmful` (unsafe); or
            `prompt` and `kind`, of which the first prompt of kind `harmless` makes a pair with the first `harmful`
            one, and so on, and other kinds are left out.
        limit: Read only the first so many pairs.
        skip_incomplete: Leave out rows without a question or with an empty answer, instead of
            refusing the file.

    Returns:
        The pairs, and how many rows were left out.

    Raises:
        DataError: If the file is missing, empty, malformed or one-sided; the message names the row.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(
            f"There are no demonstrations at {path}.\n"
            "A safety direction leads from unsafe to safe answers to the same questions.\n"
            f"Give a .jsonl, .json or .csv file with rows {FORMATS}: `--data.demonstrations FILE`."
        )
    found: list[Demonstration] = []
    skipped = 0
    for number, row in _pairs(path) if has_kinds(path) else iter_rows(path):
        if limit is not None and len(found) >= limit:
            break
        try:
            found.append(_demonstration(row, f"{path.name}, row {number}"))
        except _Incomplete:
            if not skip_incomplete:
                raise
            skipped += 1
    if not found and has_kinds(path):
        kinds = Counter(str(row.get("kind")) for _, row in iter_rows(path) if _is_object(row))
        raise DataError(
            f"{path} has prompts of the kinds {', '.join(f'{kind} ({count})' for kind, count in kinds.items())}.\n"
            "Demonstrations are made of harmless and of harmful ones, in pairs, so that both are needed.\n"
            'Give rows {"prompt": …, "kind": "harmless"} and "harmful", written so.'
        )
    if not found:
        raise DataError(
            f"{path} holds no demonstrations ({skipped} incomplete rows left out).\n"
            "A direction needs at least one pair of a safe and an unsafe answer.\n"
            f"Fill it with rows {FORMATS}, or raise `--data.limit`."
        )
    if len({pair.role for pair in found}) > 1:
        raise DataError(
            f"{path} holds pairs of answers and pairs of questions.\n"
            "Their states are read at different places, and one direction through both would mean neither.\n"
            "Put them into two files."
        )
    if all(pair.safe == pair.unsafe for pair in found):
        raise DataError(
            f"In all {len(found)} demonstrations of {path} the safe and the unsafe answer are the same text.\n"
            "Equal answers have equal states, so no direction leads from one to the other.\n"
            "Are both columns filled from the same source?"
        )
    return found, skipped


def has_kinds(path: str | Path) -> bool:
    """Say whether a file has prompts with their kinds, one a row, in place of pairs."""
    _, first = next(iter_rows(Path(path)), (0, None))
    return _is_object(first) and {"prompt", "kind"} <= first.keys() and not {"safe", "unsafe"} & first.keys()


def _pairs(path: Path) -> Iterator[tuple[int, Json]]:
    """Yield the number of the harmful row, and a harmless and a harmful question."""
    sides: dict[str, list[tuple[int, Any]]] = {"harmless": [], "harmful": []}
    for number, row in iter_rows(path):
        kind = KIND.checked(row, place(path, number))["kind"]
        if kind in sides:
            sides[kind].append((number, row.get("prompt")))
    for (_, harmless), (number, harmful) in zip(sides["harmless"], sides["harmful"], strict=False):
        yield number, {"harmless": harmless, "harmful": harmful}


def _demonstration(row: Any, where: str) -> Demonstration:
    found = _read(row, where)
    for text in (found.safe, found.unsafe, *(text for turn in found.conversation for text in turn.values())):
        check_text(text, f"{where} has a text")
    return replace(found, place=where)


def _read(row: Any, where: str) -> Demonstration:
    answers: list[Any]
    if _is_object(row) and "harmless" in row and "harmful" in row:
        found = [row["harmless"], row["harmful"]]
        if not all(isinstance(question, str) and question.strip() for question in found):
            raise _Incomplete(
                f"{where} has an empty question.\n"
                "A direction leads from the harmful to the harmless question, so every pair needs both.\n"
                "Fill the column, or leave such rows out: `--data.skip_incomplete true`."
            )
        return Demonstration((), found[0].strip(), found[1].strip(), role="user")
    if _is_object(row) and "chosen" in row and "rejected" in row:
        safe, unsafe = _transcript(row["chosen"], where), _transcript(row["rejected"], where)
        shared = 0
        while shared < min(len(safe), len(unsafe)) - 1 and safe[shared] == unsafe[shared]:
            shared += 1
        if len(safe) != len(unsafe) or shared != len(safe) - 1:
            # In a few hh-rlhf rows the two transcripts part before the last turn: keep what each
            # side says from there on as its answer.
            question = safe[:shared]
            answers = ["\n\n".join(turn["content"] for turn in side[shared:]) for side in (safe, unsafe)]
        else:
            question, answers = safe[:-1], [safe[-1]["content"], unsafe[-1]["content"]]
    elif _is_object(row) and ("question" in row or "prompt" in row):
        question = _question(row.get("question", row.get("prompt")))
        answers = [row.get("safe"), row.get("unsafe")]
    else:
        keys = sorted(row) if _is_object(row) else type(row).__name__
        raise DataError(
            f"{where} has {keys}, which is no demonstration.\n"
            "A pair is one question with a safe and an unsafe answer.\n"
            f"Write rows as {FORMATS}."
        )
    for side, answer in zip(("safe", "unsafe"), answers, strict=True):
        if not isinstance(answer, str) or not answer.strip():
            raise _Incomplete(
                f"{where} has no {side} answer.\n"
                "A direction leads from the unsafe to the safe answer, so every pair needs both.\n"
                "Fill the column, or leave such rows out: `--data.skip_incomplete true`."
            )
    if not question or question[-1]["role"] != "user":
        raise _Incomplete(
            f"{where} has no question before the answers.\n"
            "Both answers must follow the same turn of the user.\n"
            "Mend the row, or leave such rows out: `--data.skip_incomplete true`."
        )
    return Demonstration(tuple(question), answers[0].strip(), answers[1].strip())


def _question(value: Any) -> list[Message]:
    """Read a question, or the turns that end with one; nothing if it is neither."""
    return [{"role": "user", "content": value}] if isinstance(value, str) and value.strip() else _turns(value)


def _is_object(value: Any) -> TypeGuard[Json]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _turns(value: Any) -> list[Message]:
    """Read a list of turns; nothing if it is none."""
    if not _is_list(value) or not all(map(_is_turn, value)):
        return []
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]


def _is_turn(value: Any) -> bool:
    return _is_object(value) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _transcript(value: Any, where: str) -> list[Message]:
    pieces = TURN.split(value if isinstance(value, str) else "")
    said = zip(pieces[1::2], pieces[2::2], strict=True)
    turns = _turns(value) or [{"role": ROLES[role], "content": text.strip()} for role, text in said]
    if not turns:
        raise DataError(
            f"{where} has no `Human:`/`Assistant:` turns.\n"
            "`chosen` and `rejected` are read as transcripts.\n"
            "For single questions use the columns question, safe, unsafe."
        )
    return turns
