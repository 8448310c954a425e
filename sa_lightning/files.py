"""Files and directories that are whole or not there; digests; what may be written to; the cache."""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sa_lightning.errors import SaError

CHUNK = 1 << 20

Json = dict[str, Any]
"""A JSON object that is written, read or passed on as it is."""


def cache_directory() -> Path:
    """Return where this package keeps what it fetched, converted or trained: `$SA_CACHE_DIR`, or the user's cache."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(os.environ.get("SA_CACHE_DIR") or user) / "sa_lightning").absolute()


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
        partial.replace(path)
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
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if replace and path.exists():
            path.rename(old)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_writable(directory: Path) -> None:
    """Make sure, before anything is computed, that a directory can take results; nothing is left behind.

    Raises:
        SaError: If it cannot be made, or not be written to.
    """
    place = directory.absolute()
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise SaError(
            f"{directory} cannot take results: {error.strerror or error}.\n"
            "Hours of work would be lost at the end.\nChoose a directory as `--output`."
        ) from error


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse to write over results.

    Raises:
        SaError: If one of the paths exists and `overwrite` is off.
    """
    existing = [str(path) for path in paths if path.exists()]
    if existing and not overwrite:
        raise SaError(
            f"{', '.join(existing)} exists already.\n"
            "Results are not written over by accident.\nChoose another `--output`, or pass `--overwrite true`."
        )
