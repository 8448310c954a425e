"""What a delta that an edit steps along is made of, what goes with it, and what settings mean that are not set."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.files import Json
from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.deltas.merges import MERGES, Trim
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.edit.sources import Sources
from sa_lightning.surgery.operators.table import OPERATORS
from sa_lightning.surgery.scope import Scope
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["DeltaKind", "Factors", "Fit", "Made", "Making"]


@dataclass(frozen=True)
class Making:
    """What a delta is made from.

    Attributes:
        sources, settings: As they were given, with what was not set filled in.
        base, target: Opened.
        scope: Which parameters are meant; its edit area is known.
        opened: Opens another checkpoint.
        trim: Selects of one of several deltas, by its number.
        progress: Told how far each pass has come.
        fit: Finds, on the loaded target, what facts add to which tensors.
    """

    sources: Sources
    settings: EditSettings
    base: Checkpoint
    target: Checkpoint
    scope: Scope
    opened: Callable[[str], Checkpoint]
    trim: Trim
    progress: Progress | None = None
    fit: "Fit | None" = None


class Factors(NamedTuple):
    """What is added to a matrix as it is stored: left @ right.

    Attributes:
        left, right: (rows, rank) and (rank, columns), float32, on the CPU.
        about: How they were found, for the report.
    """

    left: Tensor
    right: Tensor
    about: Json


#: What is asked of the loaded target -> name of a tensor to what is added to it.
Fit = Callable[[Sources], Mapping[str, Factors]]


class Made(NamedTuple):
    """A delta, and what is selected of it where that is known already."""

    delta: Delta
    chosen: Chosen | None = None


def _accept(sources: Sources, settings: EditSettings) -> None:
    """Find nothing to refuse."""


@dataclass(frozen=True)
class DeltaKind:
    """What an edit steps along: a row of `DELTAS`.

    Attributes:
        make: Makes the delta of opened checkpoints.
        sources: What asks for it, by the names that `Sources` has.
        about: Further sources, which mean something for this kind alone.
        checkpoints: Those of all these that are checkpoints of the base's parameters.
        operator, density, scale: What settings mean that are not set; None for no default.
        several: Whether it is made of several, by `merge`.
        projected: Whether it is itself what `project` takes out, and not a direction to project on.
        check: Refuses sources and settings that do not go with it.
    """

    make: Callable[[Making], Made]
    sources: tuple[str, ...]
    about: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    operator: str = "subtract"
    density: float | None = 1.0
    scale: float | None = 1.0
    several: bool = False
    projected: bool = False
    check: Callable[[Sources, EditSettings], None] = _accept

    def resolved(self, settings: EditSettings) -> EditSettings:
        """Fill in what is not set.

        Raises:
            SettingError: If settings contradict each other.
        """
        name = settings.operator or self.operator
        operator, trims = OPERATORS[name], MERGES[settings.merge].trims
        whole = settings.selection.setting is not None  # which says itself how much
        if not whole and settings.density is None and self.density is None:
            raise SettingError(
                f"`operator: {name}` needs a `density`: the fraction of entries that it acts on.\n"
                "There is no harm vector here that would suggest one.\nWrite `density: 0.01`, say."
            )
        if settings.control == "norm" and (
            not operator.steps or (operator.coefficients is not None and not self.projected) or trims
        ):
            what = f"`merge: {settings.merge}`" if trims else f"`operator: {name}`"
            raise SettingError(
                f"`control` is norm, which scales a step to the length of another, but with {what} there is no one "
                "step to scale.\nThe control would not be what it says.\nWrite `control: size`."
            )
        if settings.control == "norm" and (settings.layer_scales or settings.kl_budget is not None):
            raise SettingError(
                "`control` is norm, which gives a random step the length of the selected one, but `layer_scales` or "
                "`kl_budget` change that length layer by layer.\nThe control would not be what it says.\n"
                "Write `control: size`, or leave the scales by layer out."
            )
        scales = (settings.scale, operator.scale, self.scale, 1.0)
        return dataclasses.replace(
            settings,
            operator=name,
            density=None if whole else settings.density or self.density,
            scale=next(scale for scale in scales if scale is not None) if operator.steps else None,
        )
