"""A command in a fork of this process: what it said, how it ended, and what it left."""

import contextlib
import locale
import os
import re
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

VERBS = ("fit", "validate", "predict", "edit", "judge", "sweep", "compare", "data", "export", "lm_eval", "quickstart")
HANG = 10.0  # seconds that a wrong input may take
ROOM = 8 << 30  # bytes of address space beyond what the parent has
MESSAGE = re.compile(r"^(?:sa [\w-]+|usage): ", re.MULTILINE)
TRACE = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: Its exit status; minus the signal that ended it; None where it was ended as hanging.
        out: What it wrote to standard output.
        err: What it wrote to standard error.
        seconds: How long it took.
    """

    status: int | None
    out: str
    err: str
    seconds: float

    @property
    def traceback(self) -> bool:
        """Whether anybody saw one."""
        return TRACE in self.out + self.err or "Fatal Python error" in self.err

    @property
    def message(self) -> str:
        """What is said last in the words of `sa`; nothing, if nothing is."""
        starts = [
            found.start()
            for found in MESSAGE.finditer(self.err)
            if ": loading " not in self.err[found.start() :].partition("\n")[0]
        ]
        return self.err[starts[-1] :].strip() if starts else ""

    @property
    def kind(self) -> str:
        """One word: right, refused, failed, traceback, hang, died or silent."""
        if self.status is None:
            return "hang"
        if self.traceback:
            return "traceback"
        if self.status < 0:
            return "died"
        if self.status == 0:
            return "right"
        if not self.message and "error:" not in self.err:
            return "silent"
        return "refused" if self.status == 2 else "failed"


def load() -> None:
    """Load what verbs load, once, and start no thread: forks are made of this process."""
    import importlib

    import torch
    import tqdm

    torch.set_num_threads(1)
    tqdm.tqdm.monitor_interval = 0
    for verb in VERBS:
        importlib.import_module(f"sa_lightning.cli.{verb}")
    for name in (
        *("sa_lightning.export.lm_eval_model", "lm_eval.__main__", "lm_eval.models", "lm_eval.evaluator", "peft"),
        *("transformers.models.llama.modeling_llama", "transformers.models.gpt2.modeling_gpt2", "datasets", "optuna"),
        *("matplotlib.pyplot", "sklearn.linear_model", "statsmodels.api", "torch._dynamo", "pyarrow.parquet"),
    ):
        importlib.import_module(name)
    from lm_eval.tasks import TaskManager

    original = TaskManager.__init__  # lm-eval's own 14,000 tasks take ten seconds to read, in every command anew
    TaskManager.__init__ = lambda self, *args, **settings: original(
        self, *args, **{**settings, "include_defaults": False}
    )


class Running:
    """A command that runs in a fork.

    Args:
        typed: What is typed behind `sa`.
        place: Where it runs, which exists; what it says goes to files beside it.
        environment: Beside this process's own; None takes a variable away.
        before: Called in the fork before anything runs.
    """

    def __init__(self, typed, place: Path, environment=None, before=None, name: str = "said") -> None:
        self.out, self.err = place.parent / f"{name}-{place.name}.out", place.parent / f"{name}-{place.name}.err"
        self.began, self.status = time.monotonic(), None
        self.process = os.fork()
        if self.process == 0:
            _become(typed, place, self.out, self.err, environment or {}, before)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.status is None:
            found, status = os.waitpid(self.process, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if found else None
        return self.status

    def send(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.process, number)

    def ended(self, over: bool = False) -> Ended | None:
        """Say how it ended, None while it runs; when its time is over, end it."""
        status = self.poll()
        if status is None and not over:
            return None
        took = time.monotonic() - self.began
        if status is None:
            os.killpg(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        out, err = (path.read_text(errors="replace") if path.exists() else "" for path in (self.out, self.err))
        for path in (self.out, self.err):
            path.unlink(missing_ok=True)
        return Ended(status, out, err, took)

    def wait(self, seconds: float) -> Ended:
        """Wait until it has ended; after so many seconds, end it."""
        while (found := self.ended(time.monotonic() > self.began + seconds)) is None:
            time.sleep(0.004)
        return found


def run(typed, place: Path, seconds: float = 60.0, environment=None, before=None) -> Ended:
    """Run a command to its end."""
    return Running(typed, place, environment, before).wait(seconds)


def limited(room: int = ROOM) -> None:
    """Let this process have so much more address space, so that no input eats the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _become(typed, place, out, err, environment, before) -> None:
    status = 1
    try:
        os.setsid()
        os.chdir(place)
        for name, value in environment.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: str(value)})
        for descriptor, path in enumerate((os.devnull, out, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
        if environment.get("LC_ALL"):
            locale.setlocale(locale.LC_ALL, environment["LC_ALL"])
        limited()
        if before is not None:
            before()
        from sa_lightning.cli import main

        sys.argv = ["sa", *map(str, typed)]
        main(sys.argv[1:])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)
