"""Results as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sa_lightning.evaluation.statistics.agreement import Agreement
from sa_lightning.evaluation.statistics.comparisons import PairedRow
from sa_lightning.evaluation.statistics.intervals import Rate, rate
from sa_lightning.evaluation.statistics.rates import Summary
from sa_lightning.evaluation.statistics.scores import PairedScore
from sa_lightning.files import write_whole

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
    paired: Sequence[PairedRow],
    command: str | Sequence[str],
    versions: Mapping[str, str],
    seed: int | None,
    model: str,
    seconds: Mapping[str, float],
    judge: str = "per task",
    paired_scores: Sequence[PairedScore] = (),
    agreement: Sequence[Agreement] = (),
    missing: Mapping[str, str] | None = None,
    hashes: Mapping[str, str] | None = None,
    control: Sequence[str] = (),
    warnings: Sequence[str] = (),
    generation: Mapping[str, Any] | None = None,
    quantization: str | None = None,
    path: str | Path | None = None,
) -> Summary:
    """Put the results of a run together, and write them where asked.

    Args:
        arms: Arm name to what `summarise` found.
        paired: From `comparisons.paired`.
        command: What was typed.
        versions: Package to version.
        seed: Of the run.
        model: Name of the target.
        seconds: Stage to wall-clock seconds: the one part that differs from run to run.
        judge: Who judged; "per task" where tasks differ in that: `by_task` names the judge of each.
        paired_scores: From `comparisons.paired_scores`.
        agreement: Pairs of judges of the same replies, from `agreements`.
        missing: Tasks that were left out, and why.
        hashes: Of weights and files, by what they are of.
        control: What makes the edited or steered arms a control rather than a method, one phrase each.
        warnings: What has to be known before a number is believed, such as from `changes.warnings`.
        generation: How replies were made, as far as it was set for the run: `max_new_tokens`, the `template`, its
            arguments.
        quantization: How the target's weights were, or once were, quantised.
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
        "paired": list(paired),
        "seconds": {stage: float(value) for stage, value in seconds.items()},
        "quantization": quantization,
        "paired_scores": list(paired_scores),
        "agreement": list(agreement),
        "missing": dict(missing or {}),
        "hashes": dict(hashes or {}),
        "control": list(control),
        "warnings": list(warnings),
        "generation": dict(generation or {}),
    }
    if path is not None:
        write_results(results, path)
    return results


def write_results(results: Mapping[str, Any], path: str | Path) -> None:
    """Write results as JSON, records as objects, whole or not at all; NaN is refused."""
    write_whole(path, json.dumps(results, indent=2, allow_nan=False, ensure_ascii=False, default=asdict) + "\n")


def pooled(arm: Mapping[str, Any], measure: str) -> Rate:
    """Return one rate of an arm; utility is the rate over all its tasks' questions."""
    if measure != "utility":
        return arm[measure]
    tasks = arm["utility"].values()
    return rate(sum(found.k for found in tasks), sum(found.n for found in tasks))


def percent(found: Rate) -> str:
    """Write a rate as `12.3 % 37/300`, or a dash where there were no prompts."""
    return f"{found.percent[0]:.1f} % {found.k}/{found.n}" if found.n else "–"


def arrow(direction: str) -> str:
    """Return the arrow of `lower is better` or `higher is better`."""
    return "↓" if direction.startswith("lower") else "↑"
