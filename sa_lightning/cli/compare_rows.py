"""The rows of a comparison: one measurement a line, on disk as soon as it is made, and never made again."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from sa_lightning.errors import DataError
from sa_lightning.evaluation import Outcome, Sample
from sa_lightning.evaluation.rates import MEASURES

__all__ = ["Rows", "counts_of", "documents_of", "key_of", "packed", "samples_of", "unpacked"]

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
        self._rows: dict[str, dict[str, Any]] = {}
        self._read = self._lines = 0
        self.refresh()

    def __len__(self) -> int:
        """Return how many measurements there are."""
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Go through them in the order in which they were made."""
        return iter(self._rows.values())

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the measurement of this key, or None."""
        return self._rows.get(key)

    def refresh(self) -> None:
        """Read what has come since, from other processes too."""
        if not self.path.exists() or self.path.stat().st_size <= self._read:
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._lines += 1
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                self._rows.setdefault(row["key"], row)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"Line {self._lines} of {self.path} is no row of a comparison ({type(error).__name__}: {error}).\n"
                    "What is not read would be measured again, or be missing from the tables.\n"
                    "Mend or delete the line."
                ) from error

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a measurement, unless another process has made it meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            self.refresh()
            if row["key"] in self._rows:
                return
            with self.path.open("ab") as file:
                file.truncate(self._read)  # half a line, if a kill has left one
                file.write((json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode())
        self.refresh()


def key_of(identity: Any) -> str:
    """Return a short hash of what makes a measurement what it is."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


def documents_of(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Say compactly what became of every document, task by task, in the order of the data set.

    Returns:
        Entries with `task`, `kind`, `outcomes` (see `packed`), `prompts`, a hash of ids and prompts, and, where prompts
        are variants of each other, `families`: the number of each document's, or null for one on its own. Documents
        that have a score instead of an outcome are left out.
    """
    entries: list[dict[str, Any]] = []
    groups: dict[tuple[str, str], list[Sample]] = {}
    sizes = Counter(sample.cluster for sample in samples if sample.cluster)
    numbers = {name: number for number, name in enumerate(name for name, size in sizes.items() if size > 1)}
    for sample in samples:
        if sample.score is None:
            groups.setdefault((sample.task, sample.kind), []).append(sample)
    for (task, kind), found in groups.items():
        digest = hashlib.sha256()
        for sample in found:
            digest.update(f"{sample.id}\0{sample.prompt}\0{sample.prefix}\0".encode("utf-8", "surrogatepass"))
        entry: dict[str, Any] = {
            "task": task,
            "kind": kind,
            "outcomes": packed(LETTERS[_outcome(sample)] for sample in found),
            "prompts": digest.hexdigest()[:16],
        }
        families = [numbers.get(sample.cluster) for sample in found]
        if any(number is not None for number in families):
            entry["families"] = families
        entries.append(entry)
    return entries


def samples_of(row: Mapping[str, Any], tasks: Iterable[str] | None = None) -> list[Sample]:
    """Return the documents of a measurement as samples without words, for counts and paired tests.

    Ids and families carry the seed, so that those of several seeds can be put together.
    """
    wanted = None if tasks is None else set(tasks)
    found = []
    for entry in row["documents"]:
        if wanted is not None and entry["task"] not in wanted:
            continue
        letters = unpacked(entry["outcomes"])
        families = entry.get("families", [None] * len(letters))
        for number, (letter, family) in enumerate(zip(letters, families, strict=True)):
            name = NAMES[letter]
            utility = name in ("right", "wrong")
            found.append(
                Sample(
                    task=entry["task"],
                    kind=entry["kind"],
                    id=f"{row['seed']}/{entry['kind']}/{number}",
                    prompt="",
                    reply="",
                    outcome=None if utility else Outcome(name),
                    correct=name == "right" if utility else None,
                    cluster="" if family is None else f"{row['seed']}/{family}",
                )
            )
    return found


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


def _outcome(sample: Sample) -> str:
    if sample.outcome is not None:
        return sample.outcome.value
    return "right" if sample.correct else "wrong"
