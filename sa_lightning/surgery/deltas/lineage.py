"""Lineage: do these checkpoints come from one another? Numbers from a sample, before an edit."""

import math
from typing import NamedTuple

import torch

from sa_lightning.files import Json
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.selection.bracket import sample

__all__ = ["Kinship", "kinship", "lineage"]

RELATED = 0.9  # a fine-tune has a cosine above 0.99 with its base; two models of one recipe, about 0


class Kinship(NamedTuple):
    """How like two sets of weights are.

    Attributes:
        cosine: Between them, entry by entry; about 0 for models that were trained apart.
        difference: ‖b − a‖ / ‖a‖; about 1.4 for models that were trained apart.
    """

    cosine: float
    difference: float


def kinship(a: Weights, b: Weights, names: tuple[str, ...]) -> Kinship:
    """Compare two sets of weights on a sample of the same rows, in float32, summed in float64."""
    sums = [0.0, 0.0, 0.0, 0.0]
    for piece in sample(names, [a.shape(name) for name in names]):
        one, other = a.rows(piece).reshape(-1).double(), b.rows(piece).reshape(-1).double()
        for i, (x, y) in enumerate([(one, one), (other, other), (one, other), (other - one, other - one)]):
            sums[i] += float(torch.dot(x, y))
    aa, bb, ab, dd = sums
    return Kinship(_ratio(ab, math.sqrt(aa) * math.sqrt(bb)), _ratio(math.sqrt(dd), math.sqrt(aa)))


def lineage(delta: Delta, target: Weights) -> tuple[Json, list[str]]:
    """Compare all that an edit reads, and say what looks unrelated.

    Returns:
        Numbers for the report: each input against the first one (the base), and, where the target is another
        checkpoint, the cosine of its own change with the delta. Then warnings, for people.
    """
    inputs = {**delta.inputs, **({} if target in delta.inputs.values() else {"target": target})}
    (first, base), *others = inputs.items()
    found: Json = {}
    warnings: list[str] = []
    for role, weights in others:
        if weights is base:
            continue
        kin = kinship(base, weights, delta.names)
        if weights is target and kin.difference == 0:
            continue  # the base itself, opened a second time
        found[f"{role} against {first}"] = {"cosine": _rounded(kin.cosine), "difference": _rounded(kin.difference)}
        if not kin.cosine >= RELATED:
            warnings.append(
                f"{weights.source} does not look related to {base.source}: the cosine of their weights is "
                f"{kin.cosine:.3f}, their difference {kin.difference:.2f} of the base's length. "
                "A model and its fine-tune have a cosine near 1. A difference of unrelated weights means nothing."
            )
    if f"target against {first}" in found and "target" not in delta.inputs:
        cosine = _cosine_of_changes(base, target, delta)
        found["cosine of (target − " + first + ") with the delta"] = _rounded(cosine)
    return found, warnings


def _cosine_of_changes(base: Weights, target: Weights, delta: Delta) -> float:
    sums = [0.0, 0.0, 0.0]
    for piece in sample(delta.names, [delta.shape(name) for name in delta.names]):
        own = (target.rows(piece).double() - base.rows(piece).double()).reshape(-1)
        step = delta.rows(piece).reshape(-1).double()
        for i, (x, y) in enumerate([(own, own), (step, step), (own, step)]):
            sums[i] += float(torch.dot(x, y))
    return _ratio(sums[2], math.sqrt(sums[0]) * math.sqrt(sums[1]))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")
