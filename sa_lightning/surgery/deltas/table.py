"""The deltas that an edit can step along, by what they are for, and which one its sources ask for."""

from sa_lightning.errors import SettingError
from sa_lightning.surgery.delta import OwnWeights
from sa_lightning.surgery.deltas.direction import DIRECTION
from sa_lightning.surgery.deltas.facts import FACTS
from sa_lightning.surgery.deltas.harm import HARM, SAFETY
from sa_lightning.surgery.deltas.kind import DeltaKind, Made, Making
from sa_lightning.surgery.deltas.task_vector import TaskVector
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.edit.sources import Sources
from sa_lightning.surgery.operators.table import OPERATORS

__all__ = ["DELTAS", "NOTHING", "kind_of"]


def make(making: Making) -> Made:
    """Make what entries are selected by, where nothing is stepped along: the target's change, or its own weights."""
    if making.settings.operation.compares:
        return Made(TaskVector(making.base, making.target, making.scope, ("base", "target")))
    return Made(OwnWeights(making.target, making.scope))


def check(sources: Sources, settings: EditSettings) -> None:
    """Refuse operators that need a delta, or a target that is not the base."""
    if settings.operator is None or settings.operation.steps:
        others = [f"`--operator {name}`" for name, one in OPERATORS.items() if not one.steps]
        raise SettingError(
            "There is nothing to step along: none of `harm`, `aligned`, `unaligned`, `direction`, `facts` is set.\n"
            "An edit subtracts a harm vector as a rule.\n"
            f"Give `--harm`; only {' and '.join(others)} do without."
        )
    if settings.operation.compares and sources.target is None:
        raise SettingError(
            f"`operator: {settings.operator}` puts the base's values back into a target, and `target` is not set."
        )


NOTHING = DeltaKind(make, (), operator="restore", density=None, check=check)

DELTAS: dict[str, DeltaKind] = {"harm": HARM, "safety": SAFETY, "direction": DIRECTION, "facts": FACTS, "none": NOTHING}


def kind_of(sources: Sources) -> str:
    """Find which delta the sources ask for: a name in `DELTAS`.

    Raises:
        SettingError: If they ask for several, or say something of one that they do not ask for.
    """
    given = [name for name, kind in DELTAS.items() if any(getattr(sources, source) for source in kind.sources)]
    if len(given) > 1:
        raise SettingError(
            f"An edit steps along one delta, but {' and '.join(given)} were given.\n"
            "A harm vector (`harm`), a safety vector (`aligned`, `unaligned`), a `direction` and `facts` are four.\n"
            "Make one edit after the other."
        )
    found = given[0] if given else "none"
    for name, kind in DELTAS.items():
        for source in kind.about:
            if name != found and getattr(sources, source) is not None:
                wanted = " or ".join(f"`{one}`" for one in kind.sources)
                raise SettingError(f"`{source}` goes with {wanted}, and there is no {wanted}.\nLeave it out.")
    return found
