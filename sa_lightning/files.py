"""Files and directories that are whole or not there: the cache, digests, writes that take effect at once."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 1 << 20


def cache_directory() -> Path:
    """Return where this package keeps what it fetched, converted or trained: `$SA_CACHE_DIR`, or the user's cache."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(os.environ.get("SA_CACHE_DIR") or user) / "sa_lightning").absolute()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a hidden directory beside `path` that takes its name when the block ends without an error.

    What an earlier, killed run has left under the hidden name is removed first. The caller holds a lock.
    """
    partial = path.parent / f".{path.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(path)
