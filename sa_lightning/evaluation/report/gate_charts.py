"""Plots of a gate: the scores of both classes, how sure a score is, and what each layer alone can tell."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.evaluation.report.charts import image
from sa_lightning.evaluation.report.curves import COLOURS, new_axes, save_figure
from sa_lightning.evaluation.statistics.calibration import cross_fitted, equal_mass, expected_calibration_error
from sa_lightning.evaluation.statistics.intervals import rate

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

FOUND, OTHERS = COLOURS[4], COLOURS[0]
FEW = 10  # prompts of a class; of fewer, no curve is drawn


def draw_gate(record: Mapping[str, Any], path: Path, name: str) -> bool:
    """Draw scores, calibration and layers of a fitted gate, side by side (`gate_axes`), into a file.

    Args:
        record: What `fit_gate` says of a gate.
        path: The image to write; its ending says in which format.
        name: Of which weights, for the title.

    Returns:
        Whether there was anything to draw.
    """
    axes = gate_axes(record, name)
    if axes is not None:
        save_figure(axes, path)
    return axes is not None


def gate_image(record: Mapping[str, Any], name: str) -> str:
    """Return the same as an `img` for a page; nothing if there is nothing to draw."""
    axes = gate_axes(record, name)
    return "" if axes is None else image(axes.figure, f"Scores, calibration and layers of the gate, {name} weights")


def gate_axes(record: Mapping[str, Any], name: str) -> "Axes | None":
    """Plot scores, calibration and layers of a fitted gate, side by side.

    - Histograms of the scores of the prompts that are to be found and of the others, with the threshold.
    - How often prompts of like probability are to be found: the probability of each is read from a logistic curve of
      label over score that was fitted on other prompts of the same set (`calibration.cross_fitted`); ten bins of equal
      mass, Wilson 95 % intervals, and the expected calibration error over these bins. Both classes are weighted as they
      are: the share of harmful prompts among those asked in earnest is another, and so are the probabilities.
    - The AUROC of each layer alone; of joined gates, a line for each.

    Args:
        record: What `fit_gate` says of a gate; of what it lacks the panel says that it was not recorded.
        name: Of which weights, for the title.

    Returns:
        The first of three axes of a figure; None if there is nothing to draw.
    """
    import numpy as np

    known = {side: _finite((record.get("scores") or {}).get(side)) for side in ("found", "others")}
    areas = {kind: _areas(one) for kind, one in (record.get("joined") or {"": record}).items()}
    if not any(areas.values()) and not all(map(len, known.values())):
        return None
    scores, curve, single = new_axes(3)
    held = "held-out prompts" if record.get("held_out") else "the prompts that the gate was fitted on"
    scores.set_title(f"gate, {name} weights", fontsize=9, loc="left")
    if all(map(len, known.values())):
        spared = {side: count for side, (count, _) in record.get("spares", {}).get("spared", {}).items()}
        _draw_scores(scores, known, spared, record.get("threshold"), held)
    else:
        _say(scores, "not recorded")
    if min(map(len, known.values())) >= FEW:
        both = np.concatenate([known["found"], known["others"]])
        labels = np.arange(len(both)) < len(known["found"])
        _draw_reliability(curve, both, labels)
        caption = (
            f"Middle: each of {held} has its probability from a logistic curve of label over score, fitted on the "
            "others (5 folds); ten bins of equal mass,\nWilson 95 % intervals. Both classes are weighted as they are: "
            f"{len(known['found'])} to be found, {len(known['others'])} others."
        )
        curve.figure.supxlabel(caption, fontsize=7.5)
    else:
        _say(curve, f"fewer than {FEW} prompts of a class" if all(map(len, known.values())) else "not recorded")
    curve.set_xlabel("probability from the score")
    curve.set_ylabel("share that is to be found")
    _draw_areas(single, areas)
    return scores


def _draw_scores(
    axes: "Axes", known: Mapping[str, "np.ndarray"], spared: Mapping[str, int], threshold: float | None, held: str
) -> None:
    import numpy as np

    edges = np.histogram_bin_edges(np.concatenate(list(known.values())), bins=24)
    for side, colour, label in (("found", FOUND, "to be found"), ("others", OTHERS, "others")):
        without = f"; {spared[side]} more are spared first" if side in spared else ""
        label = f"{label} (n = {len(known[side])}{without})"
        axes.hist(known[side], bins=edges.tolist(), color=colour, alpha=0.6, label=label)
    if threshold is not None:
        axes.axvline(threshold, linestyle="--", linewidth=1.5, color="black", label=f"threshold {threshold:.4g}")
    axes.set_xlabel("score")
    axes.set_ylabel(held)
    axes.legend(fontsize=8)


def _draw_reliability(axes: "Axes", scores: "np.ndarray", labels: "np.ndarray") -> None:
    p = cross_fitted(scores, labels)
    error = expected_calibration_error(p.tolist(), labels.tolist())
    bins = equal_mass(p.tolist())
    seen: list[Any] = [rate(int(labels[part].sum()), len(part)) for part in bins]
    axes.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color=COLOURS[5], label="as predicted")
    axes.errorbar(
        [float(p[part].mean()) for part in bins],
        [one.rate for one in seen],
        yerr=[[one.rate - one.low for one in seen], [one.high - one.rate for one in seen]],
        fmt="o", capsize=2, markersize=4, linewidth=1, color=COLOURS[0], label=f"calibration error {error:.3f}",
    )  # fmt: skip
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(fontsize=8, loc="upper left")


def _areas(record: Mapping[str, Any]) -> dict[int, float]:
    """The AUROC of each layer, as far as it is known."""
    layers = record.get("layer_auroc") or {}
    return {
        layer: area
        for layer, area in zip(layers.get("layers", ()), layers.get("auroc", ()), strict=True)
        if area is not None and math.isfinite(area)
    }


def _draw_areas(axes: "Axes", areas: Mapping[str, Mapping[int, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("layer")
    axes.set_ylabel("AUROC of the layer alone")
    if not any(areas.values()):
        _say(axes, "not recorded")
        return
    for number, (kind, found) in enumerate(areas.items()):
        colour = COLOURS[number % (len(COLOURS) - 1)]
        axes.plot(list(found), list(found.values()), "o-", color=colour, markersize=5, linewidth=1, label=kind or None)
    axes.axhline(0.5, linestyle="--", linewidth=1, color=COLOURS[5], label="chance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", transform=axes.transAxes)


def _finite(values: Any) -> "np.ndarray":
    import numpy as np

    found = np.asarray([value for value in values or () if value is not None], dtype=np.float64)
    return found[np.isfinite(found)]
