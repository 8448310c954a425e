"""A directory that appears when it is complete: until then it is hidden, and can be continued."""

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sa_lightning.errors import CheckpointError, NothingToDoError, differences
from sa_lightning.files import Json, mend, sync
from sa_lightning.outputs import RECORD, locked, note
from sa_lightning.surgery.checkpoints.shard import shard_digest

__all__ = ["PartialOutput", "restore", "sync"]

JOURNAL = "journal.json"


class PartialOutput:
    """The directory `.NAME.partial` beside an output NAME, with a journal of what is finished in it.

    Killed at any moment, it is left under its hidden name, and NAME is not there, or is what it was
    before; the next run starts over, or continues. Two runs at a time are refused.

    Args:
        output: The directory to appear.
        identity: What the output is made from and how: a journal of another identity is not continued.
        resume: Continue what an interrupted run has left; otherwise it is removed.
        overwrite: Whether NAME may be there already when the new one is complete.
    """

    def __init__(self, output: Path, identity: Json, *, resume: bool, overwrite: bool = False) -> None:
        self.overwrite = overwrite
        self.output = output
        self.path = output.parent / f".{output.name}.partial"
        self.identity: Json = json.loads(json.dumps(identity))
        self.resume = resume
        self.entries: Json = {}

    @contextmanager
    def open(self) -> Generator["PartialOutput", None, None]:
        """Make the directory, or continue it; on an error, remove it unless a finished file is worth keeping.

        Raises:
            SaError: If another run writes there.
            CheckpointError: If what is there cannot be continued.
        """
        restore(self.output)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.output.parent / f".{self.output.name}.lock", str(self.output)):
            mend(self.output.parent, _old(self.output).name.removeprefix("."))  # a killed look whether it can be made
            self._start()
            try:
                yield self
            except BaseException as error:
                if isinstance(error, NothingToDoError) or not self.entries.get("files"):
                    _remove(self.path)
                raise

    def note(self, key: str, value: Any) -> None:
        """Write down that something is finished, whole or not at all."""
        self.entries[key] = value
        temporary = self.path / f"{JOURNAL}.new"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"identity": self.identity, "entries": self.entries}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / JOURNAL)

    def finished(self, file: str) -> Json | None:
        """What the journal says of a finished file, if it is there as it was written; else nothing."""
        entry = self.entries.get("files", {}).get(file)
        path = self.path / file
        try:
            intact = entry is not None and path.is_file() and shard_digest(path) == entry["xxh3"]
        except CheckpointError:  # cut off, or not a shard at all
            intact = False
        return entry if intact else None

    def appear(self) -> None:
        """Give the complete directory its name; an earlier one gives way only now."""
        if self.output.exists() and not self.overwrite:
            raise CheckpointError(
                f"{self.output} has appeared while this run was under way, and is not replaced unasked.\n"
                f"Move it away: the same command with `--resume` takes the finished shards from {self.path}."
            )
        (self.path / JOURNAL).unlink(missing_ok=True)
        sync(self.path)
        if self.output.exists():
            self.output.rename(_old(self.output))
        try:
            self.path.rename(self.output)
        except OSError:
            restore(self.output)
            raise
        sync(self.output.parent)
        shutil.rmtree(_old(self.output), ignore_errors=True)

    def _start(self) -> None:
        journal = self.path / JOURNAL
        found: Any = None
        if journal.is_file():
            with suppress(ValueError):  # a journal that cannot be read is none
                found = json.loads(journal.read_text(encoding="utf-8"))
        is_ours = isinstance(found, dict) and {"identity", "entries"} <= found.keys()
        if is_ours and self.resume:
            if found["identity"] != self.identity:
                raise CheckpointError(
                    f"{self.path} was begun with other inputs or settings: "
                    f"{differences(found['identity'], self.identity)}.\n"
                    "Shards of two edits do not make one checkpoint.\n"
                    "Repeat the command that was interrupted, or leave out `--resume` to start over."
                )
            self.entries = found["entries"]
            return
        if os.path.lexists(self.path):
            if not (is_ours or (self.path / RECORD).exists() or (self.path.is_dir() and not any(self.path.iterdir()))):
                raise CheckpointError(
                    f"{self.path}, where shards are written until they are complete, exists already, and no edit has "
                    "made it.\nIt would be lost.\nMove it away, or choose another output directory."
                )
            _remove(self.path)
        self.path.mkdir()
        try:
            note(self.path, "edit", JOURNAL, "")  # from here on it tells whose it is
        except OSError:  # the disk is full
            _remove(self.path)
            raise


def _remove(directory: Path) -> None:
    """Remove a directory, last what tells whose it is."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != RECORD:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def restore(output: Path) -> None:
    """Give an earlier output its name back, if a run was killed between two renames."""
    old = _old(output)
    if old.exists() and output.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(output)


def _old(output: Path) -> Path:
    return output.parent / f".{output.name}.replaced-by-sa-edit"
