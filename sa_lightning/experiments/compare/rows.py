"""The rows of a comparison: one measurement a line, on disk as soon as it is made, and never made again."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from sa_lightning.errors import DataError
from sa_lightning.evaluation import Outcome, Sample
from sa_lightning.evaluation.statistics.rates import MEASURES
from sa_lightning.experiments.bench import Edit
from sa_lightning.experiments.settings import Config, Settings
from sa_lightning.files import json_digest
from sa_lightning.outputs import locked
from sa_lightning.rows import append_line, check_lines, cut_tail, ended_lines, json_line, loads

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Entry", "Identity", "Row", "Rows", "counts_of", "documents_of", "key_of", "packed", "unpacked"]

LETTERS = {
    "complied": "c",
    "refused": "r",
    "partial": "p",
    "degenerate": "d",
    "unjudged": "u",
    "right": "+",
    "wrong": "-",
}
NAMES = {letter: name for name, letter in LETTERS.items()}


class Entry(TypedDict):
    """What became of the documents of one task and kind, as `documents_of` writes it."""

    task: str
    kind: str
    outcomes: str
    prompts: str
    families: NotRequired[list[int]]
    clustered: NotRequired[bool]


class Identity(TypedDict):
    """All that the outcome of a measurement depends on, as it is written; `settings` are those that differ."""

    arm: str
    settings: Settings
    model: Settings
    seed: int
    tasks: list[str]
    metadata: Config
    limit: int | None
    max_new_tokens: NotRequired[int]


class Row(Identity):
    """A measurement: a line of the file. `counts` are k and n by measure; `edit` is what a surgery says of itself."""

    key: str
    row: str
    target: str
    stage: str
    draw: NotRequired[int]
    counts: dict[str, list[int]]
    documents: list[Entry]
    edit: NotRequired[Edit]
    failed: NotRequired[str]
    weights: str
    worlds: dict[str, str]
    versions: dict[str, str]
    seconds: float


class Rows:
    """A JSONL file of measurements, known by their `key`, to which several processes may append.

    A line that a kill has cut short is no line, and makes way for the next. Of two with the same key the first counts.

    Args:
        path: The file, read if it exists.

    Raises:
        DataError: If a whole line is no row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: dict[str, Row] = {}
        self._read = self._lines = 0
        self._families: dict[str, list[int]] = {}  # by the hash of the prompts: written once, and the same in all rows
        self._seeds: dict[str, set[int]] = {}  # by the hash of the prompts: those under which they were asked
        self.refresh()

    def __len__(self) -> int:
        """Return how many measurements there are."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """Go through them in the order in which they were made."""
        return iter(self._rows.values())

    def find(self, key: str) -> Row | None:
        """Return the measurement of this key, or None."""
        return self._rows.get(key)

    def refresh(self) -> None:
        """Read what has come since, from other processes too."""
        if not self.path.exists() or self.path.stat().st_size <= self._read:
            return
        if self._read == 0:
            check_lines(self.path, "key")
        for line in ended_lines(self.path, self._read):
            self._read += len(line) + 1
            self._lines += 1
            if not line.strip():
                continue
            try:
                row = loads(line.decode())
                self._rows.setdefault(row["key"], row)
                self._families |= {e["prompts"]: e["families"] for e in row["documents"] if "families" in e}
                for entry in row["documents"]:
                    self._seeds.setdefault(entry["prompts"], set()).add(row["seed"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"Line {self._lines} of {self.path} is no row of a comparison ({type(error).__name__}: {error}).\n"
                    "What is not read would be measured again, or be missing from the tables.\n"
                    "Mend or delete the line."
                ) from error

    def add(self, row: Row) -> None:
        """Append a measurement, unless another process has made it meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_name(f".{self.path.name}.lock"), str(self.path), patience=60):
            self._check_end()
            self.refresh()
            if row["key"] in self._rows:
                return
            documents = [self._without_families(entry) for entry in row["documents"]]
            cut_tail(self.path, "key")
            append_line(self.path, json_line({**row, "documents": documents}, finite=True))
        self.refresh()

    def _without_families(self, entry: Entry) -> Entry:
        """An entry that does not repeat the families of prompts that are in the file."""
        if "families" not in entry or entry["prompts"] not in self._families:
            return entry
        found: Entry = {**entry, "clustered": True}
        del found["families"]
        return found

    def _check_end(self) -> None:
        """Refuse a file that has become shorter; end a last line that is whole, as an editor may leave it.

        Raises:
            DataError: If measurements that were read are gone.
        """
        text = self.path.read_bytes() if self.path.exists() else b""
        if len(text) < self._read:
            raise DataError(
                f"{self.path} has {len(text)} bytes, and had {self._read} when it was read: somebody else has changed "
                "it meanwhile.\nMeasurements would be lost.\nBring it back, or start the command again."
            )
        last = text[text.rfind(b"\n") + 1 :]
        try:
            loads(last.decode())
        except ValueError:
            return
        with self.path.open("ab") as file:
            file.write(b"\n")

    def hits(
        self, row: Row, metric: str, entries: Iterable[tuple[str, str]] | None = None
    ) -> tuple[list[int], list[int]]:
        """Return which documents of a measurement a measure counts, and the family of each.

        Args:
            row: A measurement.
            metric: One of `MEASURES`.
            entries: Tasks and kinds, in the order in which they are wanted; all of the row's if not set.

        Returns:
            1 or 0 for every document that the measure is over; and numbers of families, 0 for a document on its own.
            Families differ from seed to seed, unless the same prompts were asked under several: then a document has
            the number of its family, or one of its own, under each of them.
        """
        import numpy as np

        there = {(entry["task"], entry["kind"]): entry for entry in row["documents"]}
        hits, families = [np.zeros(0, np.int8)], [np.zeros(0, np.int64)]
        for place in there if entries is None else entries:
            entry = there[place]
            marks = _marks(entry["kind"], entry["outcomes"], metric)
            if entry.get("clustered") and entry["prompts"] not in self._families:
                raise DataError(
                    f"{self.path} does not say which prompts of {entry['task']} are variants of one another: the line "
                    "that did is gone.\nIntervals and tests would take them as independent.\nBring the line back."
                )
            numbers = np.array(self._families.get(entry["prompts"], [0] * len(marks)), dtype=np.int64)
            if len(self._seeds.get(entry["prompts"], ())) > 1:
                own = int(entry["prompts"][:7], 16) * 2**33 + 2**32 + 1 + np.arange(len(marks))
                numbers = np.where(numbers > 0, numbers, own)
            else:
                numbers = np.where(numbers > 0, numbers + (row["seed"] + 1) * 2**33, 0)
            over = marks >= 0
            hits.append(marks[over])
            families.append(numbers[over])
        return np.concatenate(hits).tolist(), np.concatenate(families).tolist()


def key_of(identity: Any) -> str:
    """Return a short hash of what makes a measurement what it is."""
    return json_digest(identity)[:16]


def documents_of(samples: Sequence[Sample]) -> list[Entry]:
    """Say compactly what became of every document, task by task, in the order of the data set.

    Returns:
        Entries with `task`, `kind`, `outcomes` (see `packed`), `prompts`, a hash of ids, prompts and families, and,
        where documents name families of variants, `families`: a number for the name of each, 0 for one on its own.
        Documents that have a score instead of an outcome are left out.
    """
    entries: list[Entry] = []
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        if sample.score is None:
            groups.setdefault((sample.task, sample.kind), []).append(sample)
    for (task, kind), found in groups.items():
        digest = hashlib.sha256()
        for sample in found:
            asked = f"{sample.id}\0{sample.prompt}\0{sample.prefix}\0{sample.cluster}\0"
            digest.update(asked.encode("utf-8", "surrogatepass"))
        entry: Entry = {
            "task": task,
            "kind": kind,
            "outcomes": packed(LETTERS[_outcome(sample)] for sample in found),
            "prompts": digest.hexdigest()[:16],
        }
        if any(sample.cluster for sample in found):
            entry["families"] = [_number(sample.cluster) for sample in found]
        entries.append(entry)
    return entries


def counts_of(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Return k and n of every measure that has prompts."""
    found = {}
    for name, (is_over, hits) in MEASURES.items():
        over = [hits(sample) for sample in samples if is_over(sample)]
        if over:
            found[name] = [sum(over), len(over)]
    return found


def packed(letters: Iterable[str]) -> str:
    """Write runs of a letter as the letter and how many.

    Example:
        >>> packed("rrrrc++")
        'r4c+2'
    """
    runs = ((letter, len(list(run))) for letter, run in groupby(letters))
    return "".join(letter if count == 1 else f"{letter}{count}" for letter, count in runs)


def unpacked(text: str) -> str:
    """Return the letters that `packed` wrote.

    Example:
        >>> unpacked("r4c+2")
        'rrrrc++'
    """
    return "".join(letter * int(count or 1) for letter, count in re.findall(r"(\D)(\d*)", text))


@cache
def _marks(kind: str, text: str, metric: str) -> "np.ndarray":
    """Of every document, 1 where a measure counts it, 0 where not, -1 where it is not over it."""
    import numpy as np

    is_over, hits = MEASURES[metric]
    values = {}
    for name, letter in LETTERS.items():
        utility = name in ("right", "wrong")
        outcome, correct = (None, name == "right") if utility else (Outcome(name), None)
        sample = Sample(task="", kind=kind, id="", prompt="", reply="", outcome=outcome, correct=correct)
        values[letter] = int(hits(sample)) if is_over(sample) else -1
    return np.array([values[letter] for letter in unpacked(text)], dtype=np.int8)


def _number(family: str) -> int:
    """A number for the name of a family, the same in every row; 0 for none."""
    return 1 + int(hashlib.sha256(family.encode()).hexdigest()[:8], 16) if family else 0


def _outcome(sample: Sample) -> str:
    if sample.outcome is not None:
        return sample.outcome.value
    return "right" if sample.correct else "wrong"
