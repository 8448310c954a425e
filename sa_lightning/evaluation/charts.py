"""Small plots for the report, drawn by matplotlib and put into the page as images."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sa_lightning.evaluation.rates import Rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#7a8594"  # readable on a light and on a dark page
COLOURS = ("#8a94a3", "#2f7fb8", "#d0812b", "#2f9168", "#8a63b8", "#b8485f")


def bars(rates: Mapping[str, Rate]) -> str:
    """Draw one rate of several arms as bars from 0 to 100 %, with their 95 % intervals."""
    figure = _figure(5.0, 0.55 + 0.3 * len(rates))
    axes = figure.subplots()
    for row, found in enumerate(rates.values()):
        if found["n"] == 0:
            axes.text(1, row, "no prompts", va="center", color=INK)
            continue
        value, low, high = (100 * found[key] for key in ("rate", "low", "high"))
        # An interval that ends at the rate leaves a rounding error of either sign.
        error = [[max(value - low, 0)], [max(high - value, 0)]]
        axes.barh(row, value, height=0.62, color=COLOURS[row % len(COLOURS)], xerr=error, capsize=2.5, ecolor=INK)
        axes.text(104, row, f"{value:.1f} %  {found['k']}/{found['n']}", va="center", color=INK, clip_on=False)
    axes.set_yticks(range(len(rates)), [_short(name) for name in rates])
    axes.set_xlim(0, 100)
    axes.set_ylim(len(rates) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.35)
    shown = {name: f"{100 * r['rate']:.1f} %" if r["n"] else "no prompts" for name, r in rates.items()}
    return _image(figure, "; ".join(f"{name} {text}" for name, text in shown.items()))


def lines(series: Mapping[str, Sequence[float]], across: str, up: str) -> str:
    """Draw a line with points per series over the block index, from zero up."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.4, 2.6)
    axes = figure.subplots()
    for number, (name, values) in enumerate(series.items()):
        axes.plot(range(len(values)), values, "o-", color=COLOURS[number % len(COLOURS)], label=name, markersize=4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.35)
    return _image(figure, f"{up} of {', '.join(series)} by {across}")


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _image(figure: "Figure", text: str) -> str:
    """Return an `img` with the figure in it: nothing is fetched, and the same numbers give the same bytes."""
    import matplotlib

    for axes in figure.axes:
        axes.tick_params(colors=INK, length=0)
        axes.set_facecolor("none")
        for spine in axes.spines.values():
            spine.set_visible(False)
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "sa_lightning"}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    data = base64.b64encode(drawn.getvalue()).decode()
    return f'<img alt="{text}" src="data:image/svg+xml;base64,{data}">'


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
