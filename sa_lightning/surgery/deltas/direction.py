"""A refusal direction of the stream as a delta of the weights that write to it."""

from typing import Literal

from sa_lightning.errors import SettingError
from sa_lightning.surgery.deltas.kind import DeltaKind, Made, Making
from sa_lightning.surgery.deltas.rank_one import RankOne, read_direction
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.edit.sources import Sources

__all__ = ["DIRECTION"]

#: What is formed of a direction, by what is to happen with it.
FORMS: dict[str, Literal["projection", "injection"]] = {"project": "projection", "add": "injection"}


def make(making: Making) -> Made:
    """Make what is projected out, or added."""
    assert making.sources.direction is not None
    direction = read_direction(making.sources.direction, making.sources.direction_layer)
    form = FORMS[making.settings.operator or DIRECTION.operator]
    return Made(RankOne(making.target, direction, form, making.scope, making.target.config))


def check(sources: Sources, settings: EditSettings) -> None:
    """Refuse operators for which nothing can be formed."""
    if settings.operator is not None and settings.operator not in FORMS:
        raise SettingError(
            f"`operator: {settings.operator}` means nothing for a direction: `project` it out of the weights, or "
            "`add` it to them."
        )


#: Weight orthogonalisation, unless told otherwise.
DIRECTION = DeltaKind(make, ("direction",), about=("direction_layer",), operator="project", projected=True, check=check)
