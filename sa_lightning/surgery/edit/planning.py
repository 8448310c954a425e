"""From a delta and settings to a plan: check that all fits, find what is selected, say what looks wrong."""

from collections.abc import Mapping
from contextlib import closing

from sa_lightning.errors import CheckpointMismatchError, NothingToDoError, SettingError
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.deltas.edit_area import resolve
from sa_lightning.surgery.deltas.lineage import lineage
from sa_lightning.surgery.deltas.table import DELTAS
from sa_lightning.surgery.deltas.task_vector import TaskVector, check_match
from sa_lightning.surgery.edit.choosing import choose
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.scope import group_of
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["plan_edit", "plan_surgery"]


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
    chosen: Chosen | None = None,
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
        kind: What the delta is for, which decides what settings mean that are not set: a name in `DELTAS`.
        chosen: What is selected of it, where that is known: of a merge of trimmed deltas, all that is left of them.
        scores: Scores of all entries in scope, for selections that rank by such.
        minus: Scores, or another delta, for the selection that is left out.
        config: The target's `config.json`, for `select: heads`.
        progress: Told how far each pass has come.

    Raises:
        SettingError: If settings do not fit one another or the inputs.
        CheckpointMismatchError: If names or shapes differ in scope; before any tensor is read.
        CheckpointError: If a value is not finite.
        NothingToDoError: If the edit would change nothing.
    """
    settings = DELTAS[kind].resolved(settings)
    operator = settings.operation
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
    if operator.compares and not DELTAS[kind].projected and (base is None or base is target):
        raise SettingError(
            f"`operator: {settings.operator}` is about how the target differs from the base, but they are the same.\n"
            "The base's values are restored, or the target's own change is projected.\n"
            "Give the fine-tune or edited model with `--target`, and what it was made from with `--base`."
        )
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
    read = [*delta.inputs.values(), target, *([base] if base is not None else [])]
    warnings = list(dict.fromkeys([*(remark for one in read for remark in getattr(one, "remarks", ())), *warnings]))
    kept = choose(delta, settings, chosen=chosen, scores=scores, minus=minus, config=config, progress=progress)
    steps = None
    if operator.coefficients is not None and not DELTAS[kind].projected:
        assert base is not None
        steps = operator.coefficients(delta, base, target, kept, progress)
    return EditPlan(delta, base, target, settings, kept, steps, numbers, warnings)


def _check_layers(delta: Delta, settings: EditSettings) -> None:
    known = {group_of(name, "layer") for name in delta.names}
    wrong = [layer for layer in settings.layer_scales or () if layer not in known]
    if wrong:
        raise SettingError(
            f"`layer_scales` names {', '.join(map(str, wrong))}, but in scope are the layers "
            f"{', '.join(sorted(known, key=lambda layer: (not layer.isdigit(), layer.zfill(9))))}.\n"
            "A factor without a layer would be ignored.\nName layers that are in scope, or widen `scope`."
        )
