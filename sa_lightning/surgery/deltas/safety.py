"""The safety vector: aligned − unaligned, or aligned − base."""

from sa_lightning.errors import SettingError
from sa_lightning.surgery.deltas.kind import DeltaKind, Made, Making
from sa_lightning.surgery.deltas.task_vector import TaskVector
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.edit.sources import Sources

__all__ = ["SAFETY"]


def make(making: Making) -> Made:
    """Make the safety vector."""
    aligned = making.opened(making.sources.aligned) if making.sources.aligned else making.base
    if making.sources.unaligned:
        unaligned = making.opened(making.sources.unaligned)
        return Made(TaskVector(unaligned, aligned, making.scope, ("unaligned", "aligned")))
    return Made(TaskVector(making.base, aligned, making.scope, ("base", "aligned")))


def check(sources: Sources, settings: EditSettings) -> None:
    """Refuse to project on what points away from harm."""
    if settings.operator is not None and settings.operation.coefficients is not None:
        raise SettingError(
            f"`operator: {settings.operator}` takes harm out, but a safety vector points away from it. Use `add`."
        )


PAIR = ("aligned", "unaligned")
SAFETY = DeltaKind(make, PAIR, checkpoints=PAIR, operator="add", check=check)  # RESTA's
