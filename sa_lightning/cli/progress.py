"""Progress of streamed work, for a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

Report = Callable[[str, int, int], None]
COUNTED = ("scoring weights",)  # stages that count prompts; the others count bytes


@contextmanager
def stages(console: Console | None = None) -> Iterator[Report]:
    """Yield `report(stage, done, total)`: one bar a stage, with the bytes done and to do, and the time left."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]:>20}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total, amount="")
            amount = f"{done}/{total}" if stage in COUNTED else f"{decimal(done)} of {decimal(total)}"
            progress.update(bars[stage], completed=done, total=total, amount=amount)

        yield report
