"""Results as JSON, as a table in the terminal, and as Markdown for a model card."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.evaluation.rates import Rate, rate

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1

COLUMNS = {
    "attack_success": ("attack success", "lower is better"),
    "refusal_harmful": ("refusal on harmful", "higher is better"),
    "harmless_refusal": ("harmless refusal", "lower is better"),
    "over_refusal": ("over-refusal", "lower is better"),
    "utility": ("utility", "higher is better"),
    "degenerate": ("degenerate", "lower is better"),
}
"""The measures of a table, in order: what people call them, and which way is better."""


def results_json(
    *,
    arms: Mapping[str, Mapping[str, Any]],
    paired: Sequence[Mapping[str, Any]],
    command: str | Sequence[str],
    versions: Mapping[str, str],
    seed: int | None,
    model: str,
    seconds: Mapping[str, float],
    judge: str = "per task",
    path: str | Path | None = None,
) -> dict[str, Any]:
    """Put the results of a run together, and write them where asked.

    Args:
        arms: Arm name to what `summarise` found.
        paired: From `rates.paired`.
        command: What was typed.
        versions: Package to version.
        seed: Of the run.
        model: Name of the target.
        seconds: Stage to wall-clock seconds: the one part that differs from run to run.
        judge: Who judged; "per task" where each task's YAML names its judge.
        path: Where to write results.json.
    """
    results = {
        "schema": SCHEMA,
        "command": command if isinstance(command, str) else list(command),
        "versions": dict(versions),
        "seed": seed,
        "model": str(model),
        "judge": judge,
        "arms": {name: dict(arm) for name, arm in arms.items()},
        "paired": [dict(row) for row in paired],
        "seconds": {stage: float(value) for stage, value in seconds.items()},
    }
    if path is not None:
        write_results(results, path)
    return results


def write_results(results: Mapping[str, Any], path: str | Path) -> None:
    """Write results as JSON, whole or not at all; NaN is refused."""
    write_whole(path, json.dumps(results, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file beside its place, then rename it, so that half a file is never seen."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def pooled(arm: Mapping[str, Any], measure: str) -> Rate:
    """Return one rate of an arm; utility is the rate over all its tasks' questions."""
    if measure != "utility":
        return arm[measure]
    tasks = arm["utility"].values()
    return rate(sum(found["k"] for found in tasks), sum(found["n"] for found in tasks))


def percent(found: Rate) -> str:
    """Write a rate as `12.3 % 37/300`, or a dash where there were no prompts."""
    return "–" if found["n"] == 0 else f"{100 * found['rate']:.1f} % {found['k']}/{found['n']}"


def table(results: Mapping[str, Any]) -> "Table":
    """Return the arms as rows and the measures as columns, each with the way that is better."""
    from rich import box
    from rich.table import Table

    shown = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=f"{results['model']}, seed {results['seed']}",
        title_justify="left",
        caption="↓ lower is better, ↑ higher is better; intervals and tests are in the report",
        caption_justify="left",
    )
    shown.add_column("arm", no_wrap=True)
    for name, direction in COLUMNS.values():
        # Narrow enough for eighty columns.
        head = name.replace(" ", "\n").replace("-", "-\n").replace("degenerate", "degen-\nerate")
        shown.add_column(f"{head} {arrow(direction)}", justify="right", no_wrap=True)
    for name, arm in results["arms"].items():
        cells = [percent(pooled(arm, measure)) for measure in COLUMNS]
        shown.add_row(name, *(cell.replace(" % ", " %\n") for cell in cells), end_section=True)
    return shown


def markdown(results: Mapping[str, Any]) -> str:
    """Return the same table for a model card, with 95 % intervals."""
    head = ["arm", *(f"{name} ({direction})" for name, direction in COLUMNS.values())]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, arm in results["arms"].items():
        cells = [_with_interval(pooled(arm, measure)) for measure in COLUMNS]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines) + "\n\nRates over prompts, with Wilson 95 % intervals.\n"


def _with_interval(found: Rate) -> str:
    if found["n"] == 0:
        return percent(found)
    return f"{percent(found)} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def arrow(direction: str) -> str:
    """Return the arrow of `lower is better` or `higher is better`."""
    return "↓" if direction.startswith("lower") else "↑"
