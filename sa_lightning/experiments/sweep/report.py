"""What a sweep found: JSON, tables, plots, and the chosen settings as a configuration."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from sa_lightning.evaluation.report.curves import draw_curves, draw_front
from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS, choose, costs_little, front
from sa_lightning.experiments.settings import Config, Settings
from sa_lightning.experiments.sweep.trials import Trial, rates_of
from sa_lightning.files import write_whole
from sa_lightning.foreign.showing import code, markdown_table, one_line
from sa_lightning.foreign.terminal import Terminal

__all__ = ["OBJECTIVES", "Plot", "SweepReport"]

OBJECTIVES = DIRECTIONS
SHOWN = ("attack_success", "over_refusal", "harmless_refusal", "utility", "degenerate")


@dataclass
class Plot:
    """Rates over a setting.

    Args:
        x: The setting, a number above zero.
        series: Another setting: one line for each of its values.
        metrics: The rates to plot.
    """

    x: str
    series: str
    metrics: tuple[str, ...] = ("attack_success", "utility", "over_refusal")


Panels = dict[str, dict[str, list[tuple[float, dict[str, Rate]]]]]
"""Title to series, and the name of a series to its points."""


class SweepReport:
    """The trials of a sweep, in the order in which they ran, and what follows from them.

    Args:
        output: Directory to write to.
        command: What was typed.
        versions: Of what matters.
        settings: Those of the sweep.
        config: Makes a configuration for `sa fit` from chosen settings.
    """

    def __init__(
        self,
        output: Path,
        command: str,
        versions: dict[str, str],
        settings: Any,
        config: Callable[[Settings], Config],
    ) -> None:
        self.output, self.command, self.versions, self.settings, self.config = (
            output,
            command,
            versions,
            settings,
            config,
        )
        self.before: Trial | None = None
        self.trials: list[Trial] = []

    @property
    def original(self) -> dict[str, Rate]:
        """The rates of the original, once it is measured."""
        assert self.before is not None
        return rates_of(self.before)

    def add(self, record: Trial) -> None:
        """Take up a trial."""
        self.trials.append(record)

    def write(self, console: Terminal) -> None:
        """Write everything, and show the front."""
        measured = [trial for trial in self.trials if trial["metrics"] is not None]
        before, names = self.original, self.settings.objectives
        points = [[rates_of(trial)[name].rate or 0.0 for name in names] for trial in measured]
        on_front = front(points, [DIRECTIONS[name] for name in names])
        chosen = choose(measured, names[0], before, self.settings.limits)
        self._json(measured, on_front, chosen)
        drawn: list[str] = []
        if measured and len(names) > 1:
            metrics = [rates_of(trial) for trial in measured]
            draw_front(metrics, on_front, chosen, before, names[0], names[1], self.output / "front.svg")
            drawn.append("front.svg")
        panels = self._panels(measured)
        if panels and self.settings.plot:
            plot = self.settings.plot
            draw_curves(panels, plot.metrics, before, plot.x.split(".")[-1], self.output / "curves.svg")
            drawn.append("curves.svg")
        self._markdown(measured, on_front, chosen)
        console.print(self._table(measured, on_front, chosen))
        failed = len(self.trials) - len(measured)
        if failed:
            console.print(f"{failed} settings changed nothing and were not measured; sweep.json says why.")
        if chosen is None:
            console.print(f"No setting stays within the limits {self.settings.limits}, so none is chosen.")
        else:
            self._chosen(measured[chosen])
            console.wrote(self.output / "chosen.yaml", "the chosen settings, for `sa fit --config`")
        for name in ("sweep.json", "sweep.md", *drawn):
            console.wrote(self.output / name)

    def _json(self, measured: list[Trial], on_front: list[int], chosen: int | None) -> None:
        digests = [trial["digest"] for trial in measured]
        content = {
            "schema": 1,
            "command": self.command,
            "versions": self.versions,
            "objectives": {name: "more" if DIRECTIONS[name] > 0 else "less" for name in self.settings.objectives},
            "limits": self.settings.limits,
            "seeds": self.settings.seeds,
            "original": self.before,
            "trials": self.trials,
            "front": [digests[index] for index in on_front],
            "chosen": None if chosen is None else digests[chosen],
        }
        write_whole(
            self.output / "sweep.json", json.dumps(content, indent=1, ensure_ascii=False, default=asdict) + "\n"
        )

    def _panels(self, measured: list[Trial]) -> Panels:
        """Series for the plot: what was matched in one row, and every other grid in its own."""
        plot = self.settings.plot
        if plot is None:
            return {}
        panels: Panels = {}
        for trial in measured:
            settings = trial["settings"]
            if plot.x not in settings:
                continue
            if matched := trial.get("matched"):
                title = f"matched: {matched['rate']} {100 * matched['aim']:.1f} %"
            elif trial.get("search") or any(t.get("matched") for t in measured if t.get("grid") == trial.get("grid")):
                continue  # the steps of a search for a match
            else:
                # Words are what a series is about (its prompts, say); numbers tell one panel from another.
                rest = {k: v for k, v in settings.items() if k not in (plot.x, plot.series) and not isinstance(v, str)}
                title = ", ".join(f"{name.split('.')[-1]} {value}" for name, value in rest.items()) or "all"
            series = panels.setdefault(title, {}).setdefault(str(settings.get(plot.series, "")), [])
            series.append((float(settings[plot.x]), rates_of(trial)))
        return panels

    def _rows(
        self,
        measured: list[Trial],
        chosen: int | None,
        which: list[int],
        cell: Callable[[Rate], str],
    ) -> list[list[str]]:
        rows = [["original", *(cell(self.original[name]) for name in SHOWN), ""]]
        for index in which:
            trial = measured[index]
            settings = ", ".join(f"{name.split('.')[-1]} {_short(value)}" for name, value in trial["settings"].items())
            little = costs_little(rates_of(trial), self.original, self.settings.limits)
            mark = "chosen" if index == chosen else "" if little else "too costly"
            rows.append([settings, *(cell(rates_of(trial)[name]) for name in SHOWN), mark])
        return rows

    def _table(self, measured: list[Trial], on_front: list[int], chosen: int | None) -> Table:
        which = sorted(on_front, key=lambda i: rates_of(measured[i])[self.settings.objectives[0]].rate or 0.0)
        if chosen is not None and chosen not in which:
            which.append(chosen)
        names = " and ".join(self.settings.objectives)
        table = Table(title=f"Pareto front of {names}: {len(on_front)} of {len(measured)} settings; % (k/n)")
        table.add_column("settings", min_width=22, overflow="fold")
        for name in (*SHOWN, ""):
            table.add_column(name.replace("_", " "), justify="right")
        for row in self._rows(measured, chosen, which, _brief):
            table.add_row(*row)
        return table

    def _markdown(self, measured: list[Trial], on_front: list[int], chosen: int | None) -> None:
        parts = [
            f"# Sweep\n\n{code(self.command)}\n\nk/n pooled over seeds {self.settings.seeds}, Wilson 95 % intervals.\n"
        ]
        matched = [index for index, trial in enumerate(measured) if trial.get("matched")]
        sections = {"Pareto front": on_front, "Matched": matched, "All settings": list(range(len(measured)))}
        for title, which in sections.items():
            if which:
                rows = self._rows(measured, chosen, which, _cell)
                parts.append(f"## {title}\n\n{markdown_table(['settings', *SHOWN, ''], rows)}")
        write_whole(self.output / "sweep.md", "\n".join(parts))

    def _chosen(self, trial: Trial) -> None:
        config = self.config(trial["settings"])
        pairs = "" if "data" in config else " --data.demonstrations PAIRS"
        rates = ", ".join(f"{name} {_cell(rates_of(trial)[name])}" for name in self.settings.objectives)
        text = (
            f"# Chosen by `{one_line(self.command)}`:\n"
            f"# best {self.settings.objectives[0]} within the limits {self.settings.limits}: {rates}.\n"
            f"# These are the prompts it was chosen on: report others.\n#\n"
            f"#   sa fit --config {one_line(self.output / 'chosen.yaml')}{pairs} --output DIR\n\n"
        )
        content = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_whole(self.output / "chosen.yaml", text + content)


def _cell(rate: Rate) -> str:
    value, low, high = rate.percent
    return f"{value:.1f} [{low:.1f}, {high:.1f}] ({rate.k}/{rate.n})" if rate.n else "–"


def _brief(rate: Rate) -> str:
    return f"{rate.percent[0]:.1f} ({rate.k}/{rate.n})" if rate.n else "–"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
