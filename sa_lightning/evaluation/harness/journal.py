"""Replies on disk: those of an unfinished run, so that it goes on, and those of a finished one, for other judges."""

import contextlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.evaluation.samples import JUDGED_KINDS, Sample
from sa_lightning.files import json_digest
from sa_lightning.rows import append_row, cut_tail, ended_lines, write_rows

JOURNAL = re.compile(r"replies-.+-[0-9a-f]{24}-\d+\.jsonl")


class Journal:
    """What a model has answered so far, one line a batch, appended when the batch is done.

    A batch is known by what is in it and by the state of the model, so that a run that goes on after a kill takes up
    nothing that other weights, another strength or another template said. A line that is only half there is ignored,
    and cut off before the next one is written.

    Args:
        directory: Made when the first batch is done.
        name: Of the arm.
        state: Everything the answers depend on besides the prompts; it must be possible to write it as JSON.
        rank: Of this process, which has a file of its own.
    """

    def __init__(self, directory: str | Path, name: str, state: Mapping[str, Any], rank: int = 0) -> None:
        self.directory = Path(directory)
        self._stem = f"replies-{name}-{json_digest(state)[:24]}"
        self._path = self.directory / f"{self._stem}-{rank}.jsonl"
        self._begun = self._failed = False

    def read(self) -> dict[str, list[Any]]:
        """Return what all processes of earlier runs have left: batch to its answers."""
        found: dict[str, list[Any]] = {}
        for path in sorted(self.directory.glob(f"{self._stem}-*.jsonl")):
            for line in ended_lines(path):
                # What is not one of ours, or was left by a machine that crashed, is asked again.
                with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                    entry = json.loads(line)
                    found[entry["batch"]] = entry["answers"]
        return found

    def add(self, batch: str, answers: Sequence[Any]) -> None:
        """Append a batch; where that fails, warn once, and go on without."""
        if self._failed:
            return
        try:
            if not self._begun:
                self._begun = True
                cut_tail(self._path, "batch")  # which a killed process of this rank may have left
            append_row(self._path, {"batch": batch, "answers": list(answers)})
        except OSError as error:
            self._failed = True
            warnings.warn(
                f"Replies could not be kept in {self.directory} ({error}). The run goes on, but if it is interrupted, "
                "it starts again. Is the disk full?",
                stacklevel=2,
            )


def remove_journals(directory: str | Path) -> None:
    """Remove the journals in a directory, of whatever state of the model, and the directory if it is then empty."""
    for path in Path(directory).glob("replies-*.jsonl"):
        if JOURNAL.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        Path(directory).rmdir()


def reply_lines(arms: Mapping[str, Sequence[Sample]]) -> Iterator[dict[str, object]]:
    """Say of every judged reply what `sa judge` reads: one entry an arm and document, in that order."""
    for arm, samples in arms.items():
        for sample in samples:
            if sample.kind in JUDGED_KINDS:
                yield {
                    **{"arm": arm, "task": sample.task, "kind": sample.kind, "id": sample.id},
                    **{"category": sample.category, "prompt": sample.prompt, "response": sample.reply},
                    **({"prefix": sample.prefix} if sample.prefix else {}),
                    **({} if sample.cut is None else {"cut": sample.cut}),
                    "outcome": sample.outcome,
                    "outcomes": {name: verdict.outcome for name, verdict in sample.verdicts.items()},
                    **({"judges_said": said} if (said := _words(sample)) else {}),
                }


def _words(sample: Sample) -> dict[str, str]:
    """What judges that are models answered."""
    return {name: verdict.said for name, verdict in sample.verdicts.items() if verdict.said is not None}


def write_replies(arms: Mapping[str, Sequence[Sample]], path: str | Path) -> None:
    """Write every judged reply to a JSONL file that only its owner can read, whole or not at all."""
    write_rows(path, reply_lines(arms))
