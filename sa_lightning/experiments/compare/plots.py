"""Plots of a comparison: rates over a row's strength, and what rows trade against one another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.evaluation.report.curves import LABELS, new_axes, save_figure
from sa_lightning.evaluation.statistics.intervals import Rate, rate
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS, front
from sa_lightning.experiments.compare.settings import ORIGINAL
from sa_lightning.foreign.showing import in_plot

__all__ = ["draw_plane", "draw_strengths"]

METRICS = ("attack_success", "over_refusal", "utility")
GREY = "#8a94a3"


def draw_strengths(rows: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    """Draw rates over the setting that a row's curve varies: a line a row, its 95 % interval as a band.

    Rows whose curves vary the same setting share a line of panels; a curve that varies several is drawn over the first
    that is a number. Values at or below 0 have no place on the log scale; the original is the dashed line.

    Returns:
        Whether there was anything to draw.
    """
    panels: dict[str, dict[str, list[tuple[float, Mapping[str, Any]]]]] = {}
    for name, row in rows.items():
        x = _varied(row["curve"])
        points = [(float(p["settings"][x]), p["rates"]) for p in row["curve"] if x and p["settings"][x] > 0]
        if x and points:
            if row["settings"].get(x, 0) > 0 and row["rates"]["attack_success"].n and not row["draws"]:
                points.append((float(row["settings"][x]), row["rates"]))
            panels.setdefault(x, {})[name] = sorted(points, key=lambda point: point[0])
    if not panels:
        return False
    grid = new_axes(len(METRICS), len(panels))
    for number, (x, lines) in enumerate(panels.items()):
        for column, metric in enumerate(METRICS):
            axes = grid[number * len(METRICS) + column]
            before = rows[ORIGINAL]["rates"][metric] if ORIGINAL in rows else rate(0, 0)
            if before.n:
                axes.axhline(before.percent[0], linestyle="--", linewidth=1, color=GREY, label=ORIGINAL)
            for name, points in lines.items():
                known = [(value, rates[metric]) for value, rates in points if rates[metric].n]
                if known:
                    xs, found = zip(*known, strict=True)
                    colour = _colour(name, rows)
                    axes.plot(xs, [r.percent[0] for r in found], "o-", ms=3, lw=1.2, color=colour, label=in_plot(name))
                    low, high = ([r.percent[end] for r in found] for end in (1, 2))
                    axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_xscale("log")
            ticks = sorted({value for points in lines.values() for value, _ in points})
            axes.set_xticks(ticks, [f"{value:g}" for value in ticks], fontsize=7, rotation=45 if len(ticks) > 6 else 0)
            axes.minorticks_off()
            axes.set_xlabel(x)
            axes.set_ylabel(LABELS[metric])
        first = grid[number * len(METRICS)]
        first.legend(fontsize=7, ncols=1 + len(lines) // 8)
    save_figure(grid[0], path)
    return True


def draw_plane(rows: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    """Draw attack success against over-refusal and against utility: rows with intervals, their curves, the front.

    Returns:
        Whether there was anything to draw.
    """
    named = {name: row for name, row in rows.items() if row["rates"]["attack_success"].n}
    if not named:
        return False
    grid = new_axes(2)
    for axes, metric in zip(grid, ("over_refusal", "utility"), strict=True):
        points: list[tuple[float, float]] = []
        for name, row in named.items():
            colour = GREY if name == ORIGINAL else _colour(name, rows)
            curve = [point["rates"] for point in row["curve"]]
            spots = [(r["attack_success"].percent[0], r[metric].percent[0]) for r in curve if r[metric].n]
            if spots:
                axes.plot(*zip(*spots, strict=True), ".", ms=5, color=colour, alpha=0.5)
            points += spots
            rates = row["rates"]
            if not rates[metric].n:
                continue
            at = (rates["attack_success"].percent[0], rates[metric].percent[0])
            points += [] if row["draws"] else [at]
            axes.errorbar(
                *at,
                xerr=_error(rates["attack_success"]),
                yerr=_error(rates[metric]),
                fmt="X" if name == ORIGINAL else "s" if row["draws"] else "o",
                color=colour, capsize=2, ms=6, lw=1, label=in_plot(name),
            )  # fmt: skip
        best = sorted({points[index] for index in front(points, (-1, DIRECTIONS[metric]))})
        axes.plot(*zip(*best, strict=True), "-", lw=0.8, color="black", alpha=0.6, zorder=0) if best else None
        axes.set_xlabel(LABELS["attack_success"])
        axes.set_ylabel(LABELS[metric])
    figure: Any = grid[0].figure
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", fontsize=7, ncols=6)
    save_figure(grid[0], path)
    return True


def _varied(curve: Sequence[Mapping[str, Any]]) -> str | None:
    """The first setting that takes several values and is a number."""
    settings = [point["settings"] for point in curve]
    for name in settings[0] if settings else ():
        values = [one.get(name) for one in settings]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if numbers and len(set(values)) > 1:
            return name
    return None


def _colour(name: str, rows: Mapping[str, Any]) -> Any:
    """The same colour for a row in every plot."""
    from matplotlib import colormaps

    return colormaps["tab20"](([*rows].index(name) * 2 + [*rows].index(name) // 10) % 20)


def _error(found: Rate) -> list[list[float]] | None:
    value, low, high = found.percent
    return None if found.low is None else [[max(0.0, value - low)], [max(0.0, high - value)]]
