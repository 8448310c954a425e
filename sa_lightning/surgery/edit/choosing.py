"""What is selected of a delta, without what is left out; as a control, as much at random."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from sa_lightning.errors import NothingToDoError, SettingError
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.deltas.stand_in import norm_ratio
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.selection.kind import Asked, SelectionKind
from sa_lightning.surgery.selection.outside import InArea, WholeOutside
from sa_lightning.surgery.selection.ranking import ByRandom
from sa_lightning.surgery.selection.set_difference import SetDifference, count_kept
from sa_lightning.surgery.selection.top_k import Chosen, select_exactly

__all__ = ["choose"]


def choose(
    delta: Delta,
    settings: EditSettings,
    *,
    chosen: Chosen | None = None,
    scores: Weights | None = None,
    minus: tuple[Weights | None, Delta | None] = (None, None),
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Chosen:
    """Select entries of a delta as the (resolved) settings say; arguments as in `plan_surgery`."""
    if settings.scope.outside == "whole" and chosen is None:
        area = InArea(delta)
        inside = dataclasses.replace(settings, scope=dataclasses.replace(settings.scope, outside="untouched"))
        left_out = (minus[0], None if minus[1] is None else InArea(minus[1]))
        found = choose(area, inside, scores=scores, minus=left_out, config=config, progress=progress)
        return WholeOutside(found, area, delta)
    controlled = settings.control != "none" and chosen is None  # else what was merged has been drawn at random already
    shared = Asked(ties=settings.ties, seed=settings.seed, config=config or {}, progress=progress)
    if chosen is None:
        check_scores(settings.selection, scores, settings.select, "scores")
        asked = dataclasses.replace(
            shared,
            density=1.0 if settings.density is None else settings.density,
            granularity=settings.granularity,
            heads=settings.heads or {},
            scores=scores,
        )
        chosen = settings.selection.choose(delta, asked)
    if settings.minus is not None:
        left_out, other = minus
        check_scores(settings.minus.kind, left_out, settings.minus.select, "minus.scores")
        asked = dataclasses.replace(
            shared, density=settings.minus.density, granularity=settings.minus.granularity, scores=left_out
        )
        chosen = SetDifference(chosen, settings.minus.kind.choose(other or delta, asked), delta, other, progress)
    if not controlled:
        return chosen
    known = settings.granularity == "global" and chosen.k is not None
    sizes = {"global": chosen.k} if known else count_kept(chosen, delta, settings.granularity, progress)
    control = select_exactly(
        delta,
        {group: size for group, size in sizes.items() if size},
        ByRandom(settings.seed),
        granularity=settings.granularity,
        seed=settings.seed,
        progress=progress,
    )
    longer = _longer(chosen, control, delta, progress) if settings.control == "norm" else 1.0
    return dataclasses.replace(control, factor=chosen.factor * longer)


def _longer(chosen: Chosen, control: Chosen, delta: Delta, progress: Progress | None) -> float:
    """How many times longer the chosen part of a delta is than that of the control, in one pass."""
    sums = [0.0, 0.0]

    def energies(piece: Slice) -> list[float]:
        rows = delta.rows(piece)
        parts = (torch.where(found.keep(piece, rows), rows, 0.0).reshape(-1).double() for found in (chosen, control))
        return [float(torch.dot(one, one)) for one in parts]

    for _, found in over(energies, delta.names, delta.shape, "measuring the control", progress):
        sums = [a + b for a, b in zip(sums, found, strict=True)]
    if not sums[1]:
        raise NothingToDoError(
            f"All entries that were drawn of ({delta.formula}) are zero, so no factor gives them a length.\n"
            "The control would change nothing.\nRaise `density`, or take another `seed`."
        )
    return norm_ratio(*sums)


def check_scores(kind: SelectionKind, scores: Weights | None, select: str, setting: str) -> None:
    """Refuse a selection by scores where there are none."""
    if kind.saliency is not None and scores is None:
        raise SettingError(
            f"`select: {select}` needs scores of the weights, and `{setting}` is not set.\n"
            "They rank weights by what the loss on prompts hangs on.\n"
            "Give a JSONL file of prompts and responses (`prompts`), or a directory of scores."
        )
