"""Many cheap cases, each known by its number, in forks that are replaced when one of them hangs, dies or eats memory."""

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from .forked import limited

STEP = 10.0  # seconds that a case may take
WORSE = ("wrong", "error", "hang", "died")


class TooLong(BaseException):
    """A case that takes longer than it may; no `except Exception` catches it."""


def run(numbers: Iterable[int], work: Callable[[int], dict], done: Callable[[dict], None], size: int = 200) -> None:
    """Call `work` with each number, in forks of `size` numbers, and `done` with what it returns.

    A result has `kind`: what `work` says, `error` for an exception, `hang`, or `died` where the process did.
    """
    waiting = [*numbers]
    while waiting:
        chunk = waiting[:size]
        results = _fork(chunk, work)
        for result in results:
            done(result)
        waiting = waiting[len(results) :]


def _fork(chunk: list[int], work: Callable[[int], dict]) -> list[dict]:
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        _work(chunk, work, write)
    os.close(write)
    found, rest, last = [], b"", time.monotonic()
    while True:
        ready, _, _ = select.select([read], [], [], 0.5)
        if ready:
            piece = os.read(read, 1 << 16)
            if not piece:
                break
            *whole, rest = (rest + piece).split(b"\n")
            found += map(json.loads, whole)
            last = time.monotonic()
        elif time.monotonic() - last > 2 * STEP:  # where no alarm is heard
            os.kill(process, signal.SIGKILL)
    os.close(read)
    _, status = os.waitpid(process, 0)
    if len(found) < len(chunk):
        code = os.waitstatus_to_exitcode(status)
        late = code == -signal.SIGKILL
        found.append({"n": chunk[len(found)], "kind": "hang" if late else "died", "said": f"exit status {code}"})
    return found


def _work(chunk, work, write) -> None:
    def ring(number, frame):
        raise TooLong

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    limited()
    signal.signal(signal.SIGALRM, ring)
    for number in chunk:
        began = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, STEP)
            found = work(number)
        except TooLong:
            found = {"kind": "hang", "said": ""}
        except BaseException as error:
            told = traceback.extract_tb(error.__traceback__)
            ours = [f"{Path(f.filename).name}:{f.lineno}" for f in told if "sa_lightning" in f.filename]
            found = {"kind": "error", "said": f"{type(error).__name__}: {error}"[:300], "at": (ours or ["?"])[-1]}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took = round(time.monotonic() - began, 2)
        line = json.dumps({"n": number, **found, **({"seconds": took} if took > 1 else {})}) + "\n"
        while line:
            line = line[os.write(write, line.encode()) :]
    os._exit(0)
