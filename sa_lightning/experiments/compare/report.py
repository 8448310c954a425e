"""The report of a comparison: compare.json, tables as Markdown and in the terminal, plots."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.table import Table

from sa_lightning.experiments.compare.findings import findings
from sa_lightning.experiments.compare.plan import Plan
from sa_lightning.experiments.compare.plots import draw_plane, draw_strengths
from sa_lightning.experiments.compare.settings import ORIGINAL
from sa_lightning.experiments.compare.tables import (
    candidate_lines,
    change_lines,
    choice_lines,
    control_lines,
    criteria_lines,
    missing_lines,
    rate_lines,
    seed_lines,
)
from sa_lightning.files import write_whole
from sa_lightning.foreign.showing import code, in_markdown, markdown_table
from sa_lightning.foreign.terminal import Terminal

__all__ = ["CompareReport", "file_names"]

Lines = list[list[str]]
PLOTS = {"curves": draw_strengths, "plane": draw_plane}


def plot_name(plot: str, target: str) -> str:
    """Return the name of the file with a plot of a target."""
    return f"{plot}-{target.replace('/', '-')}.svg"


def file_names(targets: Iterable[str]) -> list[str]:
    """Return the names of all that a report may write."""
    return ["compare.json", "compare.md", *(plot_name(plot, target) for target in targets for plot in PLOTS)]


class CompareReport:
    """What a comparison found, for people and for programs.

    Args:
        plan: With the rows that are there.
        output: Directory to write to.
        command: What was typed.
        versions: Of what matters.
    """

    def __init__(self, plan: Plan, output: Path, command: str, versions: Mapping[str, str]) -> None:
        self.plan, self.output, self.command, self.versions = plan, output, command, versions

    def write(self, console: Terminal) -> None:
        """Write everything, and show the criteria, the rates of each target, and what is missing."""
        found = findings(self.plan)
        settings = self.plan.settings
        asked = {name: getattr(settings, name) for name in ("seeds", "splits", "objective", "limits", "choose_tasks")}
        content = {"schema": 1, "command": self.command, "versions": self.versions, **asked, **found}
        plots = {target: self._plots(target, entry["rows"]) for target, entry in found["targets"].items()}
        write_whole(self.output / "compare.md", self._markdown(found, plots))
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=asdict)
        write_whole(self.output / "compare.json", text + "\n")
        self._show(
            found, ["compare.json", "compare.md", *(name for names in plots.values() for name in names)], console
        )

    def _plots(self, target: str, rows: Mapping[str, Any]) -> list[str]:
        drawn = []
        for name, draw in PLOTS.items():
            path = self.output / plot_name(name, target)
            if draw(rows, path):
                drawn.append(path.name)
        return drawn

    def _markdown(self, found: Mapping[str, Any], plots: Mapping[str, list[str]]) -> str:
        settings = self.plan.settings
        parts = [
            f"# Comparison\n\n{code(self.command)}\n",
            f"Settings are chosen on {settings.splits.get('choose', 'the prompts of choose_tasks')}, seeds "
            f"{settings.seeds.get('choose', [])}, and reported on {settings.splits.get('report', 'other prompts')}, "
            f"seeds {settings.seeds['report']}. Rates are in percent, over the prompts of all seeds together, as "
            "`rate [95 % interval] (k/n)`: Wilson's interval, which knows of families where prompts are variants. A "
            "chosen setting may cost no more than these limits: "
            + ", ".join(f"{name.replace('_', ' ')} {100 * limit:g}" for name, limit in settings.limits.items())
            + " points.\n",
            _section("Criteria", criteria_lines(found["criteria"])),
            _section(
                "Candidates",
                candidate_lines(found["candidates"]),
                "The test is on other prompts than the choice, so its p stands; p × candidates is the cautious figure.",
            ),
        ]
        for target, entry in found["targets"].items():
            rows = entry["rows"]
            parts += [
                f"## {in_markdown(target)}\n\n{code(entry['model'])}\n",
                _section("Rates", rate_lines(rows), level=3),
                _section(
                    "Change against the original",
                    change_lines({name: row.get("change") for name, row in rows.items()}),
                    "Points, with the paired interval over prompts, in braces that of the mean over seeds (Student's "
                    "t), and p (exact, families together; Holm over the rows of a column).",
                    level=3,
                ),
                _section(
                    "Against controls",
                    control_lines(rows),
                    "Change in points from the control, likewise; of a control with draws, how many of them have a "
                    "higher attack success than the row, seed by seed.",
                    level=3,
                ),
                *(_section(title, seed_lines(rows, metric), level=3) for metric, title in _BY_SEED.items()),
                "".join(f"![{in_markdown(name)}]({quote(name)})\n\n" for name in plots[target]),
                _section("Choices", choice_lines(entry["choices"]), level=3),
            ]
        parts.append(_section("Missing", missing_lines(found["missing"])))
        return "\n".join(part for part in parts if part)

    def _show(self, found: Mapping[str, Any], files: Sequence[str], console: Terminal) -> None:
        for target, entry in found["targets"].items():
            lines = rate_lines(entry["rows"], brief=True)
            console.print(_rich(f"{target}: % (k/n), seeds {self.plan.settings.seeds['report']}", lines))
        if found["criteria"]:
            console.print(_rich("Criteria", criteria_lines(found["criteria"])))
        if found["candidates"]:
            console.print(_rich("Candidates", candidate_lines(found["candidates"])))
        for line in missing_lines(found["missing"])[1:]:
            console.print(f"missing: {', '.join(cell for cell in line if cell)}", highlight=False)
        for name in sorted(files):
            console.wrote(self.output / name)


_BY_SEED = {
    "attack_success": "Attack success by seed",
    "over_refusal": "Over-refusal by seed",
    "utility": "Utility by seed",
}


def _section(title: str, lines: Lines, note: str = "", level: int = 2) -> str:
    """A table under a heading; nothing where it has no rows."""
    if len(lines) < 2:
        return ""
    table = markdown_table(lines[0], lines[1:])  # an instruction may hold any text
    return f"{'#' * level} {title}\n\n" + (f"{note}\n\n" if note else "") + table


def _rich(title: str, lines: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for number, name in enumerate(lines[0]):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for line in lines[1:]:
        table.add_row(*line, style="dim" if line[0] == ORIGINAL else None)
    return table
