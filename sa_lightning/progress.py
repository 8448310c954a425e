"""Progress of long work: bars for a terminal, plain lines where there is none."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sa_lightning.foreign.showing import shown
from sa_lightning.foreign.terminal import Terminal

Report = Callable[[str, int, int], None]
FACTS = ("reading text", "writing text", "looking for values", "measuring facts")
COUNTED = ("scoring weights", "training", *FACTS)  # stages that count prompts or steps; the others count bytes
EVERY = 8.0  # seconds between two lines


def is_first() -> bool:
    """Say whether this process is the only one of a run, or the first of several, on this machine and others."""
    return all(os.environ.get(name, "0") in ("", "0") for name in ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK"))


class _Work:
    """What is being done, and how far it has come.

    Args:
        what: In words.
    """

    def __init__(self, what: str) -> None:
        self.what, self.began = what, time.monotonic()
        self.stage, self.done, self.total = "", 0, 0

    def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Take note of a stage, and of how much of it is done, in whatever is counted; of 0 nothing is known."""
        self.stage, self.done, self.total = stage, done, total

    def line(self) -> str:
        """What is said of it now."""
        seconds = f"{time.monotonic() - self.began:.0f} s"
        share = f"{100 * self.done // self.total} %" if self.total else ""
        return f"  … {', '.join(filter(None, [self.what, self.stage, share, seconds]))}"


_doing: list[_Work] = []  # the innermost last


@contextmanager
def lines(what: str, every: float = EVERY) -> Iterator[Report]:
    """Say on standard error what is being done, a line every so many seconds, where that is no terminal.

    A thread of its own does so: work that reports nothing for minutes is not silent either. Bars, which are drawn in a
    terminal, are not the business of this. Within another, the inner one speaks alone. Of several processes the first
    one speaks.

    Args:
        what: Is done, in words.
        every: Seconds between two lines.

    Yields:
        `report(stage, done, total)`, for whoever does the work: said with the next line.
    """
    work, first = _Work(what), not _doing
    _doing.append(work)
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(every):
            print(shown(_doing[-1].line()), file=sys.stderr, flush=True)

    silent = not first or sys.stderr.isatty() or not is_first()
    speaker = None if silent else threading.Thread(target=speak, name="progress", daemon=True)
    try:
        if speaker is not None:
            speaker.start()
        yield work.report
    finally:
        ended.set()
        if speaker is not None:
            speaker.join()
        _doing.remove(work)


@contextmanager
def stages(console: Terminal | None = None, what: str = "") -> Iterator[Report]:
    """Yield `report(stage, done, total)`: one bar a stage, with the bytes done and to do, and the time left.

    Where it is said `what` is being done, there are lines instead where there is no terminal.
    """
    columns = (
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]:>20}", markup=False),
        TimeRemainingColumn(),
    )
    said = lines(what) if what else nullcontext(None)
    with said as say_line, Progress(*columns, console=console, transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total, amount="")
            amount = f"{done}/{total}" if stage in COUNTED else f"{decimal(done)} of {decimal(total)}"
            progress.update(bars[stage], completed=done, total=total, amount=amount)
            if say_line is not None:
                say_line(stage, done, total)

        yield report


def say(text: str) -> None:
    """Print a line of progress on standard error, at once, terminal or none; one process of many does."""
    if is_first():
        print(shown(text), file=sys.stderr, flush=True)
