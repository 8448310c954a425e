"""Plots: the Pareto front of a sweep, rates over a setting, with intervals, and layers of a fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.evaluation.report.charts import as_text
from sa_lightning.evaluation.statistics.rates import Rate
from sa_lightning.files import whole_file
from sa_lightning.foreign.showing import in_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LABELS", "draw_curves", "draw_front", "draw_layers", "new_axes", "save_figure"]

COLOURS = ("#2f7fb8", "#d0812b", "#2f9168", "#8a63b8", "#b8485f", "#8a94a3")
LABELS = {
    "attack_success": "attack success (%)",
    "refusal_harmful": "refusals of harmful prompts (%)",
    "harmless_refusal": "refusals of harmless prompts (%)",
    "over_refusal": "over-refusal (%)",
    "degenerate": "degenerate replies (%)",
    "utility": "utility (%)",
}


def draw_front(
    metrics: Sequence[Mapping[str, Rate]],
    on_front: Sequence[int],
    chosen: int | None,
    before: Mapping[str, Rate],
    x: str,
    y: str,
    path: Path,
) -> None:
    """Draw every setting as a point, the front as a line, with 95 % intervals on the front."""
    axes = new_axes(1)[0]
    points = [(_percent(m[x]), _percent(m[y])) for m in metrics]
    axes.scatter(*zip(*points, strict=True), s=14, color=COLOURS[5], alpha=0.7, label="settings")
    ordered = sorted(on_front, key=lambda index: points[index])
    if ordered:
        axes.errorbar(
            *zip(*(points[i] for i in ordered), strict=True),
            xerr=_errors([metrics[i][x] for i in ordered]),
            yerr=_errors([metrics[i][y] for i in ordered]),
            fmt="o-", color=COLOURS[0], capsize=2, linewidth=1, markersize=5, label="Pareto front",
        )  # fmt: skip
    axes.scatter(_percent(before[x]), _percent(before[y]), marker="X", s=70, color=COLOURS[1], label="original")
    if chosen is not None:
        axes.scatter(*points[chosen], marker="*", s=160, color=COLOURS[4], zorder=5, label="chosen")
    axes.set_xlabel(LABELS[x])
    axes.set_ylabel(LABELS[y])
    axes.legend(fontsize=8)
    save_figure(axes, path)


def draw_curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, Mapping[str, Rate]]]]],
    metrics: Sequence[str],
    before: Mapping[str, Rate],
    across: str,
    path: Path,
) -> None:
    """Draw rates over a setting, one row of panels a comparison and one column a rate.

    Args:
        panels: Title to series; a series is a name with (x, rates) pairs.
        metrics: The rates, one a column.
        before: The rates of the original, drawn as a dashed line.
        across: What x is.
        path: The image to write; its ending says in which format.
    """
    grid = new_axes(len(metrics), len(panels))
    for row, (title, series) in enumerate(panels.items()):
        for column, metric in enumerate(metrics):
            axes = grid[row * len(metrics) + column]
            for number, (name, found) in enumerate(series.items()):
                kept = sorted((x, rates[metric]) for x, rates in found if rates[metric].n)
                if kept:
                    rates = [rate for _, rate in kept]
                    axes.errorbar(
                        [x * 1.015**number for x, _ in kept],  # side by side, so that intervals can be told apart
                        [_percent(rate) for rate in rates],
                        yerr=_errors(rates),
                        fmt="o-", capsize=2, markersize=4, linewidth=1, color=COLOURS[number % 5], label=in_plot(name),
                    )  # fmt: skip
            if before[metric].n:
                axes.axhline(_percent(before[metric]), linestyle="--", linewidth=1, color=COLOURS[5], label="original")
            axes.set_xscale("log")
            ticks = sorted({x for found in series.values() for x, _ in found})
            axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
            axes.minorticks_off()
            axes.set_xlabel(across)
            axes.set_ylabel(LABELS[metric])
            if column == 0:
                axes.set_title(title, fontsize=9, loc="left")
                axes.legend(fontsize=8)
    save_figure(grid[0], path)


def draw_layers(
    statistics: Mapping[str, Mapping[str, Sequence[Any]]], chosen: Mapping[str, Sequence[int]], path: Path
) -> None:
    """Draw how well each layer tells safe from unsafe, and how far apart the two sides lie there.

    Args:
        statistics: Weights to what `SteeringArtifact.statistics` says of them.
        chosen: Weights to the layers that are steered, drawn as full dots.
        path: The image to write.
    """
    from matplotlib.ticker import MaxNLocator

    areas, norms = new_axes(2)
    for number, (name, found) in enumerate(statistics.items()):
        relative = [
            d / n if n else 0.0 for d, n in zip(found["difference_norm"], found["activation_norm"], strict=True)
        ]
        for axes, values in ((areas, found["auroc"]), (norms, relative)):
            known = {layer: value for layer, value in zip(found["layers"], values, strict=True) if value is not None}
            steered = [layer for layer in known if layer in chosen[name]]
            colour = COLOURS[number % 5]
            axes.plot(
                list(known),
                list(known.values()),
                "o-",
                mfc="white",
                color=colour,
                markersize=5,
                linewidth=1,
                label=in_plot(name),
            )
            axes.plot(steered, [known[layer] for layer in steered], "o", color=colour, markersize=5)
    areas.axhline(0.5, linestyle="--", linewidth=1, color=COLOURS[5], label="chance")
    areas.set_ylabel("AUROC on held-out pairs")
    norms.set_ylabel("‖mean(safe − unsafe)‖ / mean ‖state‖")
    norms.set_ylim(bottom=0)
    for axes in (areas, norms):
        axes.set_xlabel("layer (full dots: steered)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    norms.set_xlim(areas.get_xlim() if any(map(_known, statistics.values())) else norms.get_xlim())
    if not any(map(_known, statistics.values())):
        areas.set_xlim(norms.get_xlim())
        areas.text(0.5, 0.7, "not known: a single pair", ha="center", transform=areas.transAxes)
    areas.legend(fontsize=8)
    save_figure(areas, path)


def _known(statistics: Mapping[str, Sequence[Any]]) -> bool:
    return any(area is not None and area == area for area in statistics["auroc"])


def new_axes(columns: int, rows: int = 1) -> "list[Axes]":
    """Return a new figure's axes with a grid behind them, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns + 0.4, 3.4 * rows + 0.2), layout="constrained")
    found: Any = figure.subplots(rows, columns, squeeze=False)
    for axes in found.flat:
        axes.grid(alpha=0.3)
    return list(found.flat)


def save_figure(axes: "Axes", path: Path) -> None:
    """Write the figure that the axes belong to; the same plot gives the same SVG."""
    import matplotlib

    figure: Any = axes.figure
    as_text(figure)
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "sa_lightning"}):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with whole_file(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], metadata=metadata, dpi=150)


def _percent(rate: Rate) -> float:
    return rate.percent[0]


def _errors(rates: Sequence[Rate]) -> list[list[float]]:
    spans = [rate.percent for rate in rates]
    return [[max(0.0, at - low) for at, low, _ in spans], [max(0.0, high - at) for at, _, high in spans]]
