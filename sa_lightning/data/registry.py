"""The data sets of the field: where each lies, under which licence, and how to get it.

The rows are in `table`. A data set is looked up in `$SA_DATA_DIR/<name>/` first, then on the Hugging Face Hub;
none comes with this package. Only the standard library is imported here until rows are read.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sa_lightning.data.benchmark import Benchmark, Hub, Part
from sa_lightning.data.table import DATASETS
from sa_lightning.errors import DataError
from sa_lightning.files import sha256
from sa_lightning.rows import read_rows as read_file

__all__ = ["Place", "Verdict", "check", "describe_missing", "entry", "files", "names", "part", "read_rows", "where"]

Place = Literal["local", "hub cache", "missing"]
Verdict = Literal["matches", "differs", "unknown", "missing", "unreadable"]

# Loader and data set to the answer. It takes half a minute to find out, and MMLU is 57 tasks.
_UNREACHABLE: dict[tuple[Any, str], str] = {}

_LEAST_AT_HAND_FIRST: tuple[Place, ...] = ("missing", "hub cache", "local")


def names() -> list[str]:
    """Return the names of all data sets, in the order of the table."""
    return list(DATASETS)


def entry(name: str) -> Benchmark:
    """Return the row of a data set.

    Raises:
        DataError: If there is none of that name; says which names are near.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3)
        raise DataError(
            f"There is no data set {name!r}."
            + (f" Did you mean {' or '.join(near)}?" if near else "")
            + "\n`sa data` lists them all."
        )
    return DATASETS[name]


def part(name: str, which: str | None = None) -> Part:
    """Return a part of a data set, the first where none is named."""
    parts = entry(name).parts
    if which is None:
        return next(iter(parts.values()))
    if which not in parts:
        raise DataError(f"{name} has no part {which!r}, only {', '.join(parts)}.")
    return parts[which]


def read_rows(name: str, which: str | None = None, *, member: str | None = None) -> list[Mapping[str, Any]]:
    """Read a part of a data set: its file in `$SA_DATA_DIR/<name>/` first, then the Hub.

    Args:
        name: Of the data set.
        which: Its part; the first where none is named.
        member: One file of a part that has several, one subject of MMLU for example.

    Returns:
        Its rows, columns named as in the file. Where a part has several files, the column `file` says which.

    Raises:
        DataError: If it is in neither place, cannot be read, is empty, or lacks a column in some row.
    """
    wanted = part(name, which)
    found = files(name, which, member=member)
    rows: list[Mapping[str, Any]]
    if found:
        rows = [
            {"file": path.stem, **row} if wanted.has_members else row
            for path in found
            for row in read_file(path, wanted.names)
        ]
        source = str(found[0]) if len(found) == 1 else str(found[0].parent)
    else:
        rows = _from_hub(name, wanted, member)
        source = f"{wanted.hub.id} on the Hub" if wanted.hub else ""
    if not rows:
        raise DataError(f"{source} has no rows.\n`{name}` cannot be asked. Fetch it again, from {entry(name).source}.")
    lacking = [column for column in wanted.columns if any(row.get(column) is None for row in rows)]
    if lacking:
        raise DataError(
            f"{source} lacks the columns {lacking} in {'some rows' if len(rows) > 1 else 'its only row'}; "
            f"it has {sorted(key for key in rows[0] if key)}.\nIs it another version of {name}?\n"
            f"The layout that is read is that of {entry(name).source}."
        )
    return rows


def files(name: str, which: str | None = None, *, member: str | None = None) -> list[Path]:
    """Return the local files of a part: those of the first known layout that is there, else none."""
    directory = os.environ.get("SA_DATA_DIR")
    for pattern in part(name, which).files if directory else ():
        found = sorted(Path(directory or "").expanduser().glob(pattern.format(member=member or "*")))
        if found:
            return found
    return []


def where(name: str, *which: str) -> Place:
    """Say where a data set is at hand, without fetching or reading anything.

    Args:
        name: Of the data set.
        *which: The parts that are needed, the first if none is named.

    Returns:
        `local`, `hub cache` or `missing`: of several parts the least at hand.
    """
    places = {_place(name, one) for one in which or (None,)}
    return next(place for place in _LEAST_AT_HAND_FIRST if place in places)


def check(name: str, which: str | None = None) -> tuple[Verdict, str | None]:
    """Hash the local copy of a part.

    Returns:
        `matches` or `differs` from the copy known to us, `unknown` where none is known, `unreadable` where a file
        may not be opened or is a directory, or `missing`; and the SHA-256. Of several files it is the hash of their
        `sha256sum` listing; of what cannot be read, None.
    """
    found = files(name, which)
    if not found:
        return "missing", None
    try:
        sums = [sha256(path) for path in found]
    except OSError:
        return "unreadable", None
    wanted = part(name, which)
    digest = sums[0]
    if wanted.has_members:
        listing = "".join(f"{one}  {path.name}\n" for one, path in zip(sums, found, strict=True))
        digest = hashlib.sha256(listing.encode()).hexdigest()
    if not wanted.sha256:
        return "unknown", digest
    return ("matches" if digest in wanted.sha256 else "differs"), digest


def describe_missing(name: str, which: str | None = None, answer: str = "") -> str:
    """Say that a data set is not at hand, and both ways to get it.

    Args:
        name: Of the data set.
        which: Its part.
        answer: What the Hub said when it was asked.
    """
    row, wanted = entry(name), part(name, which)
    directory = os.environ.get("SA_DATA_DIR")
    set_to = directory or "not set"
    if directory and not Path(directory).expanduser().is_dir():
        set_to += ", which does not exist"
    lines = [
        f"The data set {name} ({row.licence}) is not at hand. Two ways to get it:",
        f"  1. put {wanted.files[0].removeprefix(name + '/').format(member='*')} of {row.source} in "
        f"$SA_DATA_DIR/{name}/ (SA_DATA_DIR is {set_to});",
    ]
    if wanted.hub:
        lines.append(
            f"  2. let it come from the Hugging Face Hub ({wanted.hub.id}): be online, without HF_HUB_OFFLINE"
            + (", and log in with `hf auth login`: the set is gated." if wanted.hub.gated else ".")
        )
    else:
        lines.append(f"  2. {row.by_hand.format(directory=directory or '$SA_DATA_DIR')}")
    return "\n".join(lines + ([f"The Hub answered: {answer}"] if answer else []))


def _place(name: str, which: str | None) -> Place:
    if files(name, which):
        return "local"
    hub = part(name, which).hub
    return "hub cache" if hub and _is_cached(hub) else "missing"


def _is_cached(hub: Hub) -> bool:
    """Whether `datasets` has the split in its cache, found by the cache's own names of directories and files."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or Path(home, "datasets")).expanduser()
    owner, repo = hub.id.split("/")
    plain = re.compile(r"[_\W]")
    return any(
        # The cache writes AdvBench as adv_bench.
        plain.sub("", path.name.split("___")[1]) == plain.sub("", repo).lower()
        and any(path.glob(f"{hub.config or 'default'}*/*/*/*-{hub.split}*.arrow"))
        for path in cache.glob(f"{owner}___*")
    )


def _from_hub(name: str, wanted: Part, member: str | None) -> list[Mapping[str, Any]]:
    hub = wanted.hub
    which = next(key for key, value in entry(name).parts.items() if value is wanted)
    if hub is None:
        raise DataError(describe_missing(name, which))
    from datasets import load_dataset

    asked = (load_dataset, hub.id)
    if asked in _UNREACHABLE:
        raise DataError(describe_missing(name, which, _UNREACHABLE[asked]))
    settings: dict[str, Any] = {"data_dir": hub.data_dir} if hub.data_dir else {}
    try:
        loaded: Any = load_dataset(
            hub.id,
            member if member and wanted.has_members else hub.config,
            split=hub.split,
            revision=hub.revision,
            **settings,
        )
    except Exception as error:  # the Hub fails in a dozen ways; each means that the set is not at hand
        answer = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if isinstance(error, ConnectionError):
            _UNREACHABLE[asked] = answer
        raise DataError(describe_missing(name, which, answer)) from error
    return [{hub.renamed.get(column, column): value for column, value in row.items()} for row in loaded]
