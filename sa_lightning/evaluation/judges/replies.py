"""Saved replies: a line of JSON each, read, and written again with what judges say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sa_lightning.errors import DataError
from sa_lightning.evaluation.samples import Verdict
from sa_lightning.files import Json
from sa_lightning.rows import REPLY, write_rows


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
    """Read a file of rows with `prompt` and `response`, in any format of `rows`; other names mean JSON Lines.

    Returns:
        The replies in order; the `doc` of each is its whole row.

    Raises:
        DataError: If the file cannot be read, has no replies, or a row of it is not such an object; the message has
            the row's number.
    """
    replies = [Reply(row["prompt"], row["response"], row) for _, row in REPLY.of(path)]
    if not replies:
        raise DataError(
            f"{path} has no replies: it has no rows.\nThere is nothing to judge.\n"
            'Give a file with lines like {"prompt": "…", "response": "…"}.'
        )
    return replies


def write_verdicts(
    path: str | Path, replies: Sequence[Reply], verdicts: Mapping[str, Sequence[Verdict]], harm: str | None = None
) -> None:
    """Write the lines of the replies again, each with what the judges say.

    Args:
        path: Appears only when it is complete, for its owner alone.
        replies: Their order and other keys are kept.
        verdicts: Judge to a verdict for each reply. `outcome` is the first judge's, `outcomes` has all, and behind
            them those of judges of an earlier run. `judges_said` has the words of judges that are models.
        harm: The judge whose word on harm is written as `harmful`. With None that key is left out: one that an earlier
            run has written would stand beside another judge's `outcome`.
    """
    rows: list[Json] = []
    for index, reply in enumerate(replies):
        said = {name: found[index] for name, found in verdicts.items()}
        outcomes = {name: verdict.outcome.value for name, verdict in said.items()}
        earlier = reply.doc.get("outcomes")
        was_judged = isinstance(earlier, Mapping)
        row: Json = {**reply.doc, "outcome": next(iter(outcomes.values())), "outcomes": outcomes}
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
        rows.append(row)
    write_rows(path, rows)
