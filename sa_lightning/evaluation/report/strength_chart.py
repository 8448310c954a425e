"""Plots of a strength: what harmless replies bear, and the dose of each layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa_lightning.evaluation.report.curves import COLOURS, new_axes, save_figure


def draw_strength(search: Mapping[str, Any] | None, doses: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Draw the KL divergence over the strengths that were looked at, with budget and choice, and doses by layer.

    Args:
        search: `StrengthSearch.as_dict()`; None where the strength was given.
        doses: Weights to layer to dose.
        path: The image to write; its ending says in which format.
    """
    from matplotlib.ticker import MaxNLocator

    *left, layers = new_axes(2 if search else 1)
    if search:
        axes = left[0]
        tried = [(abs(strength), kl) for strength, kl, _ in search["tried"]]
        axes.plot(*zip(*tried, strict=True), "o-", color=COLOURS[0], markersize=4, linewidth=1, label="looked at")
        axes.axhline(search["budget"], linestyle="--", linewidth=1, color=COLOURS[5], label="budget")
        axes.axvline(abs(search["strength"]), linewidth=1, color=COLOURS[4], label=f"taken: {search['strength']:.3g}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("strength")
        axes.set_ylabel("KL on harmless replies (nats a token)")
        axes.legend(fontsize=8)
    for number, (name, found) in enumerate(doses.items()):
        label = f"{name}: {sum(found.values()):.2g} in all"
        colour = COLOURS[number % 5]
        layers.plot(list(found), list(found.values()), "o-", color=colour, markersize=4, linewidth=1, label=label)
    layers.set_xlabel("layer")
    layers.set_ylabel("dose (step / typical stream norm)")
    layers.xaxis.set_major_locator(MaxNLocator(integer=True))
    layers.set_ylim(bottom=0)
    layers.legend(fontsize=8)
    save_figure(layers, path)
