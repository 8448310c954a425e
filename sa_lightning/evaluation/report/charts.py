"""Plots for the report, drawn by matplotlib and put into the page as images that know a dark page from a light one."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS, front
from sa_lightning.foreign.showing import in_plot, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#59636f"
PALE = "#9aa5b1"
COLOURS = ("#7d8896", "#2f7fb8", "#d0812b", "#2f9168", "#8a63b8", "#b8485f")
MARKERS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
"""Of arms, in order: matplotlib's names, and the same as text for a legend."""
# What is drawn in INK is repainted by the style within the image; browsers hand it the scheme of the page.
_STYLE = (
    f"<style>svg{{--ink:{INK}}}@media(prefers-color-scheme:dark){{svg{{--ink:#b4bfcc}}}}"
    "@media print{svg{--ink:#333}}</style>"
)


def plane(
    arms: Mapping[str, Mapping[str, Rate]], x: str, y: str, labels: Mapping[str, str], controls: Sequence[str] = ()
) -> str:
    """Draw every arm as a point with 95 % whiskers, and the Pareto front of all of them as a line.

    Args:
        arms: Arm to its rates; arms without prompts of either are left out.
        x: A rate of `pareto.DIRECTIONS`.
        y: Another.
        labels: What people call rates.
        controls: Arms that are drawn small, pale and without whiskers.

    Returns:
        An `img`, or nothing if no arm has both rates.
    """
    points = {name: (arm[x], arm[y]) for name, arm in arms.items() if arm[x].n and arm[y].n}
    if not points:
        return ""
    figure = _figure(4.1, 3.3)
    axes = figure.subplots()
    names = list(points)
    values = [(a.percent[0], b.percent[0]) for a, b in points.values()]
    on_front = sorted({values[index] for index in front(values, (DIRECTIONS[x], DIRECTIONS[y]))})
    axes.plot(*zip(*on_front, strict=True), "-", color=INK, linewidth=1.2, alpha=0.6, zorder=1)
    for place, name in enumerate(name for name in arms if name not in controls):
        if name not in points:
            continue  # its colour stays its own
        (across, up), colour = values[names.index(name)], COLOURS[place % len(COLOURS)]
        errors = {"xerr": _error(points[name][0]), "yerr": _error(points[name][1])}
        axes.errorbar(across, up, **errors, fmt="none", ecolor=colour, elinewidth=1.3, alpha=0.8, zorder=3)
        # Later points are smaller, so that one behind another still shows as a ring.
        axes.scatter(
            across, up, s=max(30, 100 - 16 * place), marker=list(MARKERS)[place % len(MARKERS)], color=colour,
            edgecolors="white", linewidths=0.8, zorder=4 + place,
        )  # fmt: skip
    if random := [values[names.index(name)] for name in names if name in controls]:
        axes.scatter(*zip(*random, strict=True), s=12, color=PALE, zorder=2)
    _span(axes, points)
    good = ("←" if DIRECTIONS[x] < 0 else "→", "↓" if DIRECTIONS[y] < 0 else "↑")
    axes.set_xlabel(f"{labels[x]}, %  ({good[0]} better)", color=INK)
    axes.set_ylabel(f"{labels[y]}, %  ({good[1]} better)", color=INK)
    axes.grid(alpha=0.25, color=INK)
    said = "; ".join(f"{name} {a:.1f} %, {b:.1f} %" for name, (a, b) in zip(names, values, strict=True))
    return image(figure, f"{labels[x]} and {labels[y]} of each arm: {said}")


def lines(series: Mapping[str, Sequence[float]], across: str, up: str) -> str:
    """Draw a line with points per series over the block index, from zero up."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.4, 2.6)
    axes = figure.subplots()
    for number, (name, values) in enumerate(series.items()):
        axes.plot(
            range(len(values)), values, "o-", color=COLOURS[number % len(COLOURS)], label=in_plot(name), markersize=4
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25, color=INK)
    return image(figure, f"{up} of {', '.join(series)} by {across}")


def _span(axes: "Axes", points: Mapping[str, tuple[Rate, Rate]]) -> None:
    """Show what is there with its whiskers and some room, within 0 and 100 %."""
    for index, set_limits in enumerate((axes.set_xlim, axes.set_ylim)):
        low = min(pair[index].percent[1] for pair in points.values())
        high = max(pair[index].percent[2] for pair in points.values())
        room = 0.08 * (high - low)
        set_limits(max(low - room, -3), min(high + room, 103))


def _error(found: Rate) -> Any:
    # An interval that ends at the rate leaves a rounding error of either sign.
    value, low, high = found.percent
    return [[max(value - low, 0)], [max(high - value, 0)]]


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def as_text(figure: Any) -> None:
    """Take what a figure says as text: names in it may hold `$…$`, which matplotlib reads as mathematics.

    Labels of ticks are left: matplotlib writes them itself, powers of ten as mathematics.
    """
    from matplotlib.text import Text

    ticks = {id(label) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()}
    for text in figure.findobj(Text):
        if id(text) not in ticks:
            text.set_text(shown(text.get_text()))
            text.set_parse_math(False)


def image(figure: Any, text: str) -> str:
    """Return an `img` with the figure in it: nothing is fetched, and the same numbers give the same bytes."""
    import matplotlib

    for axes in figure.axes:
        axes.tick_params(colors=INK, length=0)
        axes.set_facecolor("none")
        for spine in axes.spines.values():
            spine.set_visible(False)
    as_text(figure)
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "sa_lightning"}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue().decode().replace(INK, "var(--ink)").replace("<defs>", f"{_STYLE}<defs>", 1)
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(shown(text))}" src="data:image/svg+xml;base64,{data}">'
