"""The directory, or the file, that a verb writes: what may be replaced there, and what killed runs have left."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from sa_lightning.errors import SaError
from sa_lightning.files import guards, json_digest, mend, sha256
from sa_lightning.outputs.lock import locked
from sa_lightning.progress import is_first
from sa_lightning.rows import append_line, ended_lines

RECORD = ".sa.jsonl"
UNFINISHED = "unfinished"
ROOM = 1 << 20  # bytes that a disk must have free for a run to begin

Foreign = Callable[[Path], str | None]
"""What about a directory shows that not only a verb has written there, in words; None where nothing does."""


class Output:
    """The directory that a verb writes to, or one file; a context that holds its lock.

    Every file that appears there through `files.whole_file` is noted in the hidden file `.sa.jsonl` first: verb, name
    and digest. A file may be replaced or removed if it is as its verb has noted it; all others are somebody's. That is
    looked at twice: before any work, and as a file is about to appear. The lock ends with the process, however that
    ends. Of several processes of a run the first one does all this.

    Args:
        directory: Made if need be; removed at the end if it is then empty.
        verb: That writes.
        names: What it may write there, as far as is known beforehand.
        done: Those of `names` that say that a run has finished; all, if not set.
        overwrite: Whether the verb's own finished results may be replaced; None if nobody can ask for that.
        shared: Let other runs of this kind write there meanwhile.
        foreign: Of results that need no note, because their content tells: name to what does not belong there.
        file: Whether `names` is one file in `directory` that has an output of its own: others may be written beside it.

    Raises:
        SaError: If nothing can be written there, another run writes there, or something would be lost.
    """

    def __init__(
        self,
        directory: str | Path,
        verb: str,
        names: Sequence[str],
        *,
        done: Sequence[str] | None = None,
        overwrite: bool | None = False,
        shared: bool = False,
        foreign: Mapping[str, Foreign] | None = None,
        file: bool = False,
    ) -> None:
        self.directory, self.verb, self.names, self.is_file = Path(directory), verb, names, file
        self._foreign, self._written = dict(foreign or {}), set[str]()
        self._held = ExitStack()
        self._process = os.getpid()
        if not is_first():
            return
        try:
            what = self.directory / names[0] if file else self.directory
            self._held.callback(remove_empty, check_place(what, self.directory, names))
            lock = self.directory / (f".{names[0]}.lock" if file else RECORD)
            if any(output.holds(lock) for output in _open):  # a verb within another writes to the same place
                self._mend()
            else:
                self._held.enter_context(locked(lock, str(what), shared=shared, alone=self._mend))
            self._lock = os.path.realpath(lock)
            self._check(names if done is None else done, overwrite)
            _open.append(self)
            self._held.callback(_open.remove, self)
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_file(
        cls, path: str | Path, verb: str, *, overwrite: bool | None = False, foreign: Foreign | None = None
    ) -> "Output":
        """Return the output of a verb that writes one file.

        Raises:
            SaError: Likewise, or if there is a directory.
        """
        place = Path(path)
        if os.path.isdir(place):  # which says no where a name is too long
            raise SaError(
                f"`--output` {path} is a directory.\n`sa {verb}` writes one file.\nName a file, such as one in it."
            )
        told = {} if foreign is None else {place.name: foreign}
        return cls(place.parent, verb, [place.name], overwrite=overwrite, foreign=told, file=True)

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write there; a process that this one has forked cannot."""
        if os.getpid() == self._process:
            self._held.close()

    def finish(self) -> None:
        """Remove what earlier runs of the verb have written, and this one has not; files that were changed stay."""
        for name in self._noted().keys() - self._written:
            path = self.directory / name
            if path.is_file() and self.is_ours(path):
                path.unlink()

    def discard(self, name: str) -> None:
        """Remove a result of an earlier run of the verb, if there is one.

        Raises:
            SaError: If it was changed since.
        """
        path = self.directory / name
        if os.path.lexists(path):
            self._refuse([path])
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def holds(self, lock: Path) -> bool:
        """Say whether this process has locked a file for this output."""
        return self._process == os.getpid() and self._lock == os.path.realpath(lock)

    def is_ours(self, path: Path) -> bool:
        """Say whether what is at a path is what the verb has written there, unchanged."""
        if path.is_symlink():
            return False
        if path.name in self._foreign and self._foreign[path.name](path) is None:
            return True
        known = self._noted().get(path.name)
        return known is not None and digest(path) in known

    def _mend(self) -> None:
        """Remove what killed runs have left; the lock says that they are dead."""
        mend(self.directory, *self.names, *self._noted())
        if not self.is_file:
            mend(self.directory / UNFINISHED)

    def _noted(self) -> dict[str, set[str]]:
        return noted(self.directory, self.verb)

    def _check(self, done: Sequence[str], overwrite: bool | None) -> None:
        there = [self.directory / name for name in self.names if os.path.lexists(self.directory / name)]
        self._refuse(there)
        finished = [str(path) for path in there if path.name in done]
        if finished and not overwrite:
            raise SaError(
                f"{', '.join(finished)} exists already.\n"
                "Results are not written over by accident.\nChoose another `--output`"
                + (", or pass `--overwrite true`." if overwrite is not None else ".")
            )

    def _refuse(self, paths: Sequence[Path]) -> None:
        others = [path for path in paths if not self.is_ours(path)]
        if others:
            why = self._foreign.get(others[0].name, lambda path: None)(others[0])
            why = why or f"not as `sa {self.verb}` has noted it in {RECORD}: it is yours"
            raise SaError(
                f"{', '.join(map(str, others))} exists already, and {why}.\n"
                "Also `--overwrite` replaces and deletes only what `sa` has written and nobody changed since.\n"
                "Move it away, or choose another `--output`."
            )

    def _note(self, path: Path, partial: Path) -> None:
        """Take note of what is about to appear; refuse to put it in place of what is not the verb's."""
        if os.path.lexists(path):
            self._refuse([path])
        note(self.directory, self.verb, path.name, digest(partial))
        self._written.add(path.name)


_open: list[Output] = []  # those of this process, the innermost last


def _guard(path: Path, partial: Path) -> None:
    place = os.path.realpath(path.parent)
    for output in reversed(_open):
        if os.path.realpath(output.directory) == place and not (output.is_file and path.name not in output.names):
            output._note(path, partial)
            return


guards.append(_guard)


def note(directory: Path, verb: str, name: str, found: str) -> None:
    """Write down that a verb writes something under a name, with its digest."""
    if found in noted(directory, verb).get(name, ()):
        return
    record = directory / RECORD
    torn = record.exists() and record.read_bytes()[-1:] not in (b"", b"\n")  # by a kill: the next line stands apart
    line = json.dumps({"verb": verb, "name": name, "digest": found}, ensure_ascii=False)
    append_line(record, "\n" * torn + line)


def noted(directory: Path, verb: str) -> dict[str, set[str]]:
    """Return what a verb has written in a directory: name to the digests of what was there under it."""
    found: dict[str, set[str]] = {}
    for line in ended_lines(directory / RECORD):
        with suppress(ValueError, KeyError, TypeError):  # not one of ours, or of a crash
            entry = json.loads(line)
            if entry["verb"] == verb:
                found.setdefault(entry["name"], set()).add(entry["digest"])
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and files of a directory."""
    if not path.is_dir():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if not file.is_dir())
    return json_digest([[str(file.relative_to(path)), sha256(file)] for file in files])


def check_place(what: Path, directory: Path, names: Sequence[str]) -> list[Path]:
    """Make a directory, and see that files with these names can be written there.

    Args:
        what: A person has named.
        directory: That or what it is in.
        names: Of files.

    Returns:
        The directories that had to be made, the innermost first, for `remove_empty`.

    Raises:
        SaError: If it cannot be.
    """
    made: list[Path] = []
    try:
        str(what).encode()
        made = _made(directory)
        _try_to_write(directory, names)
        return made
    except (OSError, ValueError) as error:
        remove_empty(made)
        said = "its name is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        raise SaError(
            f"{what} cannot take results: {said}.\n"
            "Hours of work would be lost at the end.\nChoose another `--output`, or make room there."
        ) from error


def _made(directory: Path) -> list[Path]:
    """Make a directory, and return what had to be made, the innermost first."""
    missing = [place for place in (directory, *directory.parents) if not os.path.lexists(place)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except BaseException:
        remove_empty(missing)
        raise
    return missing


def remove_empty(directories: Sequence[Path]) -> None:
    """Remove directories as far as they are empty."""
    with suppress(OSError):
        for directory in directories:
            directory.rmdir()


def _try_to_write(directory: Path, names: Sequence[str]) -> None:
    """Make and remove the file with the longest of the hidden names that files have before they are complete."""
    longest = max(names, key=len)
    path = directory / f".{longest}.{secrets.token_hex(4)}.partial"
    try:
        path.touch(exist_ok=False)
    finally:
        path.unlink(missing_ok=True)
    if shutil.disk_usage(directory).free < ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
