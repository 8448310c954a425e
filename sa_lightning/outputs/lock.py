"""A lock on a file that ends with the process that holds it."""

import errno
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from sa_lightning.errors import SaError
from sa_lightning.progress import say

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    fcntl: ModuleType | None = None
else:
    fcntl = _fcntl

PATIENCE = 2.0  # seconds: the workers of a run that was killed hold its lock until their next result


@contextmanager
def locked(
    path: Path,
    what: str,
    *,
    shared: bool = False,
    alone: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
) -> Generator[None, None, None]:
    """Hold a lock on a file, which is made, and removed if it is empty at the end.

    The system lets go of it when the process ends, however it ends. Where a file system knows no locks, say so, and go
    on.

    Args:
        path: The file.
        what: Is written meanwhile, for people.
        shared: Let others hold it who share it.
        alone: Called at first, unless another process holds it too.
        patience: Seconds to wait for it.

    Raises:
        SaError: If another process holds it.
    """
    if fcntl is None:
        alone()
        yield
        return
    descriptor = _lock(path, what, shared, alone, patience)
    try:
        yield
    finally:
        with suppress(OSError):  # others share it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size == 0:
                path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, what: str, shared: bool, alone: Callable[[], None], patience: float) -> int:
    assert fcntl is not None
    ends = time.monotonic() + patience
    ways = (fcntl.LOCK_EX, fcntl.LOCK_SH) if shared else (fcntl.LOCK_EX,)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        for way in ways:
            try:
                fcntl.flock(descriptor, way | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    say(f"Warning. {path.parent} knows no locks ({error.strerror}): let no other run write {what}.")
                    alone()
                    return descriptor
                continue
            if _is_still(descriptor, path):
                if way == fcntl.LOCK_EX:
                    alone()
                if shared:
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                return descriptor
        os.close(descriptor)
        if time.monotonic() > ends:
            raise SaError(
                f"Another run is writing {what} right now.\nEach would overwrite what the other has written.\n"
                "Wait for it, or choose another `--output`."
            )
        time.sleep(0.05)


def _is_still(descriptor: int, path: Path) -> bool:
    """Say whether an open file is the one under its name: whoever held the lock may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
