"""Differences of checkpoints: the harm vector, and what may be taken out of it; the safety vector."""

from sa_lightning.errors import SettingError
from sa_lightning.surgery.delta import Delta, Orthogonalised
from sa_lightning.surgery.deltas.kind import DeltaKind, Made, Making
from sa_lightning.surgery.deltas.merges import MERGES
from sa_lightning.surgery.deltas.stand_in import StandIn
from sa_lightning.surgery.deltas.task_vector import TaskVector
from sa_lightning.surgery.deltas.ties_merge import Nonzero
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.edit.sources import Sources
from sa_lightning.surgery.selection.top_k import entries

__all__ = ["HARM", "SAFETY"]


def make(making: Making) -> Made:
    """Make the harm vector."""
    sources, settings, scope, progress = making.sources, making.settings, making.scope, making.progress

    def vector(source: str, role: str = "harm") -> TaskVector:
        return TaskVector(making.base, making.opened(source), scope, ("base", role))

    vectors: list[Delta] = [vector(harm) for harm in sources.harms]
    if sources.benign:
        along = vector(sources.benign, "benign")
        vectors = [Orthogonalised(one, along, settings.granularity, progress) for one in vectors]
    kind = MERGES[settings.merge if len(vectors) > 1 else "sum"]
    delta = kind.merge(vectors, sources.weights, making.trim)
    if kind.trims:
        return Made(delta, Nonzero(entries(delta)))
    return Made(StandIn(vector(sources.stand_in, "stand_in"), delta, progress) if sources.stand_in else delta)


def check(sources: Sources, settings: EditSettings) -> None:
    """Refuse a stand-in for vectors that are trimmed."""
    if MERGES[settings.merge].trims and sources.stand_in:
        raise SettingError(
            f"`stand_in` takes the place of one harm vector, and `merge: {settings.merge}` trims and merges several.\n"
            "One vector cannot be merged.\nWrite `merge: sum`, whose length it then has, or leave it out."
        )


HARM = DeltaKind(
    make,
    sources=("harm",),
    about=("weights", "benign", "stand_in"),
    checkpoints=("harm", "benign", "stand_in"),
    density=0.1,  # this and the scale as in Safety Arithmetic
    scale=2.0,
    several=True,
    check=check,
)


def make_safety(making: Making) -> Made:
    """Make the safety vector."""
    aligned = making.opened(making.sources.aligned) if making.sources.aligned else making.base
    if making.sources.unaligned:
        unaligned = making.opened(making.sources.unaligned)
        return Made(TaskVector(unaligned, aligned, making.scope, ("unaligned", "aligned")))
    return Made(TaskVector(making.base, aligned, making.scope, ("base", "aligned")))


def check_safety(sources: Sources, settings: EditSettings) -> None:
    """Refuse to project on what points away from harm."""
    if settings.operator is not None and settings.operation.coefficients is not None:
        raise SettingError(
            f"`operator: {settings.operator}` takes harm out, but a safety vector points away from it. Use `add`."
        )


PAIR = ("aligned", "unaligned")
SAFETY = DeltaKind(make_safety, PAIR, checkpoints=PAIR, operator="add", check=check_safety)  # RESTA's
