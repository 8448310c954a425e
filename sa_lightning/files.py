"""Files and directories that are whole or not there, also after a kill; digests; the cache."""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sa_lightning.errors import SaError

CHUNK = 1 << 20

Json = dict[str, Any]
"""A JSON object that is written, read or passed on as it is."""

LEFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<what>partial|old)")
"""Hidden names beside a result: of what is not complete yet, and of what makes way for it."""

guards: list[Callable[[Path, Path], None]] = []
"""Each is shown where something is about to appear, and what; one that raises keeps it away (see `outputs`)."""


def cache_directory() -> Path:
    """Return where this package keeps what it fetched, converted or trained: `$SA_CACHE_DIR`, or the user's cache.

    Raises:
        SaError: If neither is known.
    """
    user = os.environ.get("SA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(user or Path.home() / ".cache") / "sa_lightning").absolute()
    except RuntimeError as error:
        raise SaError(
            "There is no home directory, and so no place for what is fetched, converted or trained once.\n"
            "Without one it would be made again each time.\nSet SA_CACHE_DIR to a directory that you may write to."
        ) from error


def sync(path: Path) -> None:
    """Have a file or directory on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _appear(partial: Path, path: Path) -> None:
    """Give what is complete, and on the disk, its name."""
    partial.replace(path)
    with suppress(OSError):  # some file systems know no sync of directories
        sync(path.parent)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(value: Any) -> str:
    """Return the SHA-256 of a value as JSON with sorted keys, in hexadecimal; what is no JSON counts as text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def whole_file(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """Yield an empty hidden file beside `path` that takes its name when the block ends without an error.

    The hidden name is its own each time: of two writers at a time the later wins, and no file is a mixture of both.

    Args:
        path: Its place; directories on the way are made.
        private: Let only its owner read it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
        yield partial
        for guard in guards:
            guard(path, partial)
        sync(partial)
        _appear(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a file beside its place, then rename it, so that half a file is never seen; text is UTF-8."""
    with whole_file(path, private=private) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a hidden directory beside `path` that takes its name when the block ends without an error.

    What an earlier, killed run has left under hidden names is removed first, and a directory that it had put aside is
    given back. The caller sees to it that no other process writes to `path`.

    Args:
        path: Its place.
        replace: Whether a directory that is there already makes way, once the new one is complete.
    """
    mend(path.parent, path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    partial, old = (path.with_name(f".{path.name}.{token}.{what}") for what in ("partial", "old"))
    partial.mkdir()
    try:
        yield partial
        for guard in guards:
            guard(path, partial)
        for file in partial.rglob("*"):
            if file.is_file():  # some libraries let only the owner read what they write
                file.chmod(partial.stat().st_mode & 0o666)
            sync(file)
        if replace and path.exists():
            path.rename(old)
        _appear(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def mend(directory: Path, *names: str) -> None:
    """Remove what killed runs have left beside these names, and give back what they had put aside; all names if none.

    The caller sees to it that nobody is writing them.
    """
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        found = LEFT.fullmatch(path.name)
        if found is None or (names and found["name"] not in names):
            continue
        if found["what"] == "old" and not os.path.lexists(directory / found["name"]):
            path.rename(directory / found["name"])
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
