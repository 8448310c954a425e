"""From sources to a plan: checkpoints opened, refused where they do not belong together, and the delta made of them."""

import dataclasses
from collections.abc import Callable
from functools import cache

from sa_lightning.errors import SettingError
from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.opening import open_checkpoint
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.deltas.edit_area import resolve
from sa_lightning.surgery.deltas.kind import Fit, Making
from sa_lightning.surgery.deltas.merges import MERGES
from sa_lightning.surgery.deltas.table import DELTAS, kind_of
from sa_lightning.surgery.deltas.task_vector import TaskVector, check_match
from sa_lightning.surgery.edit.choosing import choose
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.edit.planning import plan_surgery
from sa_lightning.surgery.edit.scores import Score, known_scores
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.edit.sources import Sources
from sa_lightning.surgery.selection.table import scored_names
from sa_lightning.surgery.selection.top_k import Chosen
from sa_lightning.surgery.spelling import spelled_like

__all__ = ["check_settings", "check_sources", "plan_from"]


def check_settings(sources: Sources, settings: EditSettings) -> None:
    """Refuse settings that need a source which is not there, or the other way round, before anything is opened."""
    kind = DELTAS[kind_of(sources)]
    kind.check(sources, settings)
    scored = settings.selection.saliency is not None
    budget = settings.kl_budget is not None
    if budget != bool(sources.kl_prompts) or (budget and not sources.prompts):
        raise SettingError(
            f"`kl_budget` is {settings.kl_budget}, `kl_prompts` {sources.kl_prompts}, `prompts` {sources.prompts}.\n"
            "A budget is measured on harmless prompts (`kl_prompts`), and spent on unsafe answers (`prompts`).\n"
            "Give all three, or leave `kl_budget` and `kl_prompts` out."
        )
    others = "` or `".join(scored_names())
    idle = bool(sources.scores or (sources.prompts and not budget)) and not scored
    if idle or (scored and not (sources.prompts or sources.scores)):
        raise SettingError(
            f"`select` is {settings.select}, and `prompts` and `scores` are {'not ' if scored else ''}set.\n"
            "Scores rank weights by what the loss on prompts hangs on.\n"
            + ("Give `--prompts FILE`." if scored else f"Write `select: {others}`, or leave them out.")
        )
    if MERGES[settings.merge].trims and not kind.several:
        raise SettingError(
            f"`merge: {settings.merge}` is about several harm vectors, and there is no `harm`.\nLeave it out."
        )
    kind.resolved(settings)


def check_sources(
    sources: Sources, settings: EditSettings, opener: Callable[[str], Checkpoint] = open_checkpoint
) -> list[Checkpoint]:
    """Open all checkpoints by their headers, refuse those that do not belong together, and return them.

    Nothing is read but headers, so a mistake is found before a model is loaded.
    """
    check_settings(sources, settings)
    opened = _alike(sources, opener)
    scope = dataclasses.replace(settings.scope, edit_area=False)
    base = opened(sources.known_base)
    target = opened(sources.target) if sources.target else base
    names = [*sources.named(DELTAS[kind_of(sources)].checkpoints), settings.minus and settings.minus.harm]
    others = [opened(name) for name in names if name]
    scope.names(base)
    for other in (*others, target):
        check_match(base, other, scope)
    return [base, *others, target]


def plan_from(
    sources: Sources,
    settings: EditSettings,
    *,
    score: Score | None = None,
    fit: Fit | None = None,
    progress: Progress | None = None,
    opener: Callable[[str], Checkpoint] = open_checkpoint,
    keep_scores: bool = True,
) -> EditPlan:
    """Open the sources and plan the edit.

    Args:
        sources: Which checkpoints.
        settings: What is selected, and what happens there.
        score: Computes saliency scores of the target from a file of prompts.
        fit: Finds, on the loaded target, what facts add to which tensors.
        progress: Told how far each pass has come.
        opener: Opens a checkpoint by its name.
        keep_scores: Whether scores that are computed are written where the sources say.

    Raises:
        SaError: If something does not fit; before anything is written, and where possible before a weight is read.
    """
    check_settings(sources, settings)
    kind = kind_of(sources)
    opened = _alike(sources, opener)
    base = opened(sources.known_base)
    target = opened(sources.target or sources.known_base)
    scope = resolve(settings.scope, base, target)
    filled = DELTAS[kind].resolved(settings)

    scores: Weights | None = None

    def scores_of(delta: Delta) -> Weights | None:
        nonlocal scores
        if scores is None and settings.selection.saliency is not None:
            scores = known_scores(
                settings.select, sources.scores, sources.prompts, delta, target, score, keep=keep_scores
            )
        return scores

    def trim(delta: Delta, number: int) -> Chosen:
        # Each has draws of its own; what is left out is left out of the merge.
        own = dataclasses.replace(filled, minus=None, seed=filled.seed + 1_000_003 * number)
        return choose(delta, own, scores=scores_of(delta), config=target.config, progress=progress)

    delta, chosen = DELTAS[kind].make(Making(sources, filled, base, target, scope, opened, trim, progress, fit))
    other, left_out = None, None
    if settings.minus is not None:
        minus = settings.minus
        other = TaskVector(base, opened(minus.harm), scope) if minus.harm else None
        if minus.kind.saliency is not None:
            left_out = known_scores(minus.select, minus.scores, minus.prompts, delta, target, score, keep=keep_scores)
    return plan_surgery(
        delta,
        base,
        target,
        settings,
        kind=kind,
        chosen=chosen,
        scores=scores_of(delta) if chosen is None else None,
        minus=(left_out, other),
        config=target.config,
        progress=progress,
    )


def _alike(sources: Sources, opener: Callable[[str], Checkpoint]) -> Callable[[str], Checkpoint]:
    """Open each checkpoint once, under the names that the target has for its tensors."""
    opened = cache(opener)

    @cache
    def alike(name: str) -> Checkpoint:
        return spelled_like(opened(name), opened(sources.target or sources.known_base))

    return alike
