"""From settings to a plan: check that all fits, find what is selected, say what looks wrong."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import closing

import torch

from sa_lightning.errors import CheckpointMismatchError, NothingToDoError, SettingError
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta, coefficient
from sa_lightning.surgery.deltas.edit_area import resolve
from sa_lightning.surgery.deltas.lineage import lineage
from sa_lightning.surgery.deltas.stand_in import norm_ratio
from sa_lightning.surgery.deltas.task_vector import TaskVector, check_match
from sa_lightning.surgery.deltas.ties_merge import Nonzero, TiesMerge
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.scope import group_of
from sa_lightning.surgery.selection.dare import Dare
from sa_lightning.surgery.selection.heads import HeadMask
from sa_lightning.surgery.selection.ranking import ByFisher, ByMagnitude, ByRandom, ByScore, Ranking
from sa_lightning.surgery.selection.set_difference import SetDifference, count_kept
from sa_lightning.surgery.selection.top_k import Chosen, select, select_exactly

__all__ = ["choose", "plan_edit", "plan_surgery"]


def plan_edit(
    base: Weights,
    harm: Weights,
    target: Weights | None,
    settings: EditSettings,
    progress: Progress | None = None,
) -> EditPlan:
    """Plan the edit of Safety Arithmetic: target − scale · mask ⊙ (harm − base).

    Args:
        base: The aligned model before harmful fine-tuning.
        harm: Its harmful fine-tune.
        target: The model to repair. By default the base.
        settings: How to trim and how far to step.
        progress: Told how far each pass has come.

    Raises:
        CheckpointMismatchError: If names or shapes differ in scope; before any tensor is read.
        CheckpointError: If a value is not finite.
        NothingToDoError: If the edit would change nothing.
    """
    target = base if target is None else target
    vector = TaskVector(base, harm, resolve(settings.scope, base, target))
    return plan_surgery(vector, base, target, settings, progress=progress)


def plan_surgery(
    delta: Delta,
    base: Weights | None,
    target: Weights,
    settings: EditSettings,
    *,
    kind: str = "harm",
    scores: Weights | None = None,
    minus: tuple[Weights | None, Delta | None] = (None, None),
    config: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> EditPlan:
    """Plan any edit: a delta, a selection of its entries, and what happens there.

    Args:
        delta: What is stepped along.
        base: The base; `restore` and `project` need it.
        target: What is edited.
        settings: How.
        kind: What the delta is for, which decides what settings mean that are not set: a key of `DEFAULTS`.
        scores: Scores of all entries in scope, for `select: snip` and `fisher`.
        minus: Scores, or another delta, for the selection that is left out.
        config: The target's `config.json`, for `select: heads`.
        progress: Told how far each pass has come.

    Raises:
        SettingError: If settings do not fit one another or the inputs.
        CheckpointMismatchError: If names or shapes differ in scope; before any tensor is read.
        CheckpointError: If a value is not finite.
        NothingToDoError: If the edit would change nothing.
    """
    settings = settings.resolved(kind)
    _check_layers(delta, settings)
    for weights in (target, base):
        if weights is not None and all(weights is not given for given in delta.inputs.values()):
            check_match(next(iter(delta.inputs.values())), weights, delta.scope)
    tied = [name for name in delta.names if name in target.aliases]
    if tied:
        raise CheckpointMismatchError(
            f"`{tied[0]}` is a parameter of its own in ({delta.formula}), but {target.source} ties it to "
            f"`{target.aliases[tied[0]]}`.\nOne tensor cannot follow two deltas.\n"
            f"If the rest fits, leave it out: `scope.exclude: ['{tied[0]}']`."
        )
    _check_operator(delta, base, target, settings)
    # The first few slices decide, unless there is nothing to find.
    with closing(over(lambda piece: bool(delta.rows(piece).any()), delta.names, delta.shape)) as found:
        differs = any(differs for _, differs in found)
    if not differs:
        others = [weights.source for weights in delta.inputs.values()][1:] or [target.source]
        raise NothingToDoError(
            f"The edit is refused, for nothing changed: {others[0]} equals {next(iter(delta.inputs.values())).source} "
            f"in all {len(delta.names)} parameters in scope, so ({delta.formula}) is zero.\n"
            "Was the fine-tune saved, and is it not the base itself? Or widen `scope`."
        )
    numbers, warnings = lineage(delta, target)
    chosen = choose(delta, settings, scores=scores, minus=minus, config=config, progress=progress)
    steps = None
    if settings.operator == "project" and kind != "direction":
        assert base is not None
        steps = _coefficients(delta, base, target, chosen, progress)
    return EditPlan(delta, base, target, settings, chosen, steps, numbers, warnings)


def choose(
    delta: Delta,
    settings: EditSettings,
    *,
    scores: Weights | None = None,
    minus: tuple[Weights | None, Delta | None] = (None, None),
    config: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Chosen:
    """Select entries of a delta as the (resolved) settings say; arguments as in `plan_surgery`."""
    chosen = _first_choice(delta, settings, scores, config, progress)
    if settings.minus is not None:
        other = minus[1] or delta
        snip = settings.minus.select == "snip"
        ranking = ByScore(_known(minus[0], "snip", "minus.scores")) if snip else ByMagnitude()
        second = select(
            other,
            density=settings.minus.density,
            ranking=ranking,
            granularity=settings.minus.granularity,
            ties=settings.ties,
            seed=settings.seed,
            progress=progress,
        )
        chosen = SetDifference(chosen, second, delta, minus[1], progress)
    if settings.control == "none" or isinstance(delta, TiesMerge):  # of a TIES merge, the trims are at random
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

    for _, found in over(energies, delta.names, delta.shape, "measuring the control", progress, forks=True):
        sums = [a + b for a, b in zip(sums, found, strict=True)]
    if not sums[1]:
        raise NothingToDoError(
            f"All entries that were drawn of ({delta.formula}) are zero, so no factor gives them a length.\n"
            "The control would change nothing.\nRaise `density`, or take another `seed`."
        )
    return norm_ratio(*sums)


def _first_choice(
    delta: Delta,
    settings: EditSettings,
    scores: Weights | None,
    config: Mapping[str, object] | None,
    progress: Progress | None,
) -> Chosen:
    n = sum(math.prod(delta.shape(name)) for name in delta.names)
    if isinstance(delta, TiesMerge):
        return Nonzero(n)
    if settings.select == "heads":
        assert settings.heads is not None
        return HeadMask(settings.heads, delta, dict(config or {}))
    assert settings.density is not None
    if settings.select == "dare":
        return Dare(n, settings.density, settings.seed)
    rankings: dict[str, Callable[[], Ranking]] = {
        "magnitude": ByMagnitude,
        "random": lambda: ByRandom(settings.seed),
        "snip": lambda: ByScore(_known(scores, "snip", "scores")),
        "fisher": lambda: ByFisher(_known(scores, "fisher", "scores")),
    }
    return select(
        delta,
        density=settings.density,
        ranking=rankings[settings.select](),
        granularity=settings.granularity,
        ties=settings.ties,
        seed=settings.seed,
        progress=progress,
    )


def _known(scores: Weights | None, select: str, setting: str) -> Weights:
    if scores is None:
        raise SettingError(
            f"`select: {select}` needs scores of the weights, and `{setting}` is not set.\n"
            "They rank weights by what the loss on prompts hangs on.\n"
            "Give a JSONL file of prompts and responses (`prompts`), or a directory of scores."
        )
    return scores


def _check_layers(delta: Delta, settings: EditSettings) -> None:
    known = {group_of(name, "layer") for name in delta.names}
    wrong = [layer for layer in settings.layer_scales or () if layer not in known]
    if wrong:
        raise SettingError(
            f"`layer_scales` names {', '.join(map(str, wrong))}, but in scope are the layers "
            f"{', '.join(sorted(known, key=lambda layer: (not layer.isdigit(), layer.zfill(9))))}.\n"
            "A factor without a layer would be ignored.\nName layers that are in scope, or widen `scope`."
        )


def _check_operator(delta: Delta, base: Weights | None, target: Weights, settings: EditSettings) -> None:
    needs_change = settings.operator == "restore" or (settings.operator == "project" and "base" in delta.inputs)
    if needs_change and (base is None or base is target):
        raise SettingError(
            f"`operator: {settings.operator}` is about how the target differs from the base, but they are the same.\n"
            "The base's values are restored, or the target's own change is projected.\n"
            "Give the fine-tune or edited model with `--target`, and what it was made from with `--base`."
        )


def _coefficients(
    delta: Delta, base: Weights, target: Weights, chosen: Chosen, progress: Progress | None
) -> dict[str, float]:
    """⟨target − base, m ⊙ δ⟩ / ⟨m ⊙ δ, m ⊙ δ⟩ of each tensor; 0 where nothing is selected."""
    sums = {name: [0.0, 0.0] for name in delta.names}

    def products(piece: Slice) -> tuple[float, float]:
        rows = delta.rows(piece)
        kept = torch.where(chosen.keep(piece, rows), rows, 0.0).reshape(-1).double()
        own = (target.rows(piece).float() - base.rows(piece).float()).reshape(-1).double()
        return float(torch.dot(own, kept)), float(torch.dot(kept, kept))

    for piece, found in over(products, delta.names, delta.shape, "projecting", progress, forks=True):
        sums[piece.name] = [a + b for a, b in zip(sums[piece.name], found, strict=True)]
    return {name: coefficient(along, energy) for name, (along, energy) in sums.items()}
