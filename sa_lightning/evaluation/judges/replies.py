"""Saved replies: a line of JSON each, read, and written again with what judges say."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from sa_lightning.errors import DataError
from sa_lightning.evaluation.samples import Verdict
from sa_lightning.files import write_whole


class Reply(NamedTuple):
    """What a judge reads.

    Attributes:
        prompt: What was asked, without chat template.
        response: What the model said, without special tokens.
        doc: What else is known of the prompt: the whole line of a file, the fields of a sample.
    """

    prompt: str
    response: str
    doc: Mapping[str, Any]


def read_replies(path: str | Path) -> list[Reply]:
    """Read a file with one JSON object a line, each with `prompt` and `response`; blank lines are skipped.

    Returns:
        The replies in order; the `doc` of each is its whole line.

    Raises:
        DataError: If the file cannot be read, has no replies, or a line of it is not such an object; the message has
            the line's number.
    """
    try:
        lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.\nThe replies to judge come from there.\n"
            "Check the path: `--input` is a file with one JSON object a line."
        ) from error
    replies = [_reply(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not replies:
        raise DataError(
            f"{path} has no replies: every line is blank.\nThere is nothing to judge.\n"
            'Give a file with lines like {"prompt": "…", "response": "…"}.'
        )
    return replies


def write_verdicts(
    path: str | Path, replies: Sequence[Reply], verdicts: Mapping[str, Sequence[Verdict]], harm: str | None = None
) -> None:
    """Write the lines of the replies again, each with what the judges say.

    Args:
        path: Appears only when it is complete.
        replies: Their order and other keys are kept.
        verdicts: Judge to a verdict for each reply. `outcome` is the first judge's, `outcomes` has all, and behind
            them those of judges of an earlier run. `judges_said` has the words of judges that are models.
        harm: The judge whose word on harm is written as `harmful`. With None that key is left out: one that an earlier
            run has written would stand beside another judge's `outcome`.
    """
    lines = []
    for index, reply in enumerate(replies):
        said = {name: found[index] for name, found in verdicts.items()}
        outcomes = {name: verdict.outcome.value for name, verdict in said.items()}
        earlier = reply.doc.get("outcomes")
        was_judged = isinstance(earlier, Mapping)
        row = {**reply.doc, "outcome": next(iter(outcomes.values())), "outcomes": outcomes}
        if was_judged:
            row["outcomes"] = {**outcomes, **{name: said for name, said in earlier.items() if name not in outcomes}}
        words = {name: verdict.said for name, verdict in said.items() if verdict.said is not None}
        before = reply.doc.get("judges_said")
        if was_judged and isinstance(before, Mapping):
            words |= {name: text for name, text in before.items() if name not in said}
            row.pop("judges_said")
        if words:
            row["judges_said"] = words
        if harm is not None:
            row["harmful"] = said[harm].harmful
        elif was_judged:
            row.pop("harmful", None)
        lines.append(_dumped(row) + "\n")
    write_whole(path, "".join(lines))


def _dumped(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold as an escape alone
        return json.dumps(row)
    return text


def _reply(path: str | Path, number: int, line: bytes) -> Reply:
    def refuse(fact: str) -> NoReturn:
        raise DataError(
            f"Line {number} of {path} {fact}.\n"
            "Every line is judged or none: a result that leaves lines out would look complete.\n"
            'Mend the line: it needs the form {"prompt": "…", "response": "…"}, with whatever keys beside these.'
        )

    def number_of(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else refuse(f"has the number {text[:40]}, which is too large")

    try:
        row = json.loads(
            line.decode(),
            parse_constant=lambda name: refuse(f"has {name}, which is no JSON"),
            parse_float=number_of,
        )
    except UnicodeDecodeError as error:
        refuse(f"is not UTF-8 (byte {error.start + 1})")
    except json.JSONDecodeError as error:
        refuse(f"is not JSON: {error.msg} (character {error.pos + 1})")
    except ValueError:
        refuse("has an integer of thousands of digits")
    except RecursionError:
        refuse("is nested too deep")
    if not isinstance(row, dict):
        refuse(f"is not an object, but {type(row).__name__}")
    for key in ("prompt", "response"):
        if key not in row:
            refuse(f"has no `{key}`; it has {', '.join(map(str, row)) or 'no keys'}")
        if not isinstance(row[key], str):
            refuse(f"has a `{key}` that is not text, but {type(row[key]).__name__}")
    return Reply(row["prompt"], row["response"], row)
