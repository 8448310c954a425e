"""Facts as a delta: one or several products of two vectors, added to down projections of MLPs."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.files import Json
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.deltas.kind import DeltaKind, Factors, Made, Making
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.edit.sources import Sources
from sa_lightning.surgery.scope import Scope

__all__ = ["FACTS", "LowRank"]


class LowRank:
    """A delta of low rank: left @ right, of a few matrices; every row is formed by itself, so that its bits are.

    Args:
        target: The weights that are to be edited.
        factors: Name to factors.
        scope: Which parameters may change.
        formula: What the delta is, in words.

    Raises:
        SettingError: If a name is not in scope, or has another shape.
    """

    def __init__(
        self, target: Weights, factors: Mapping[str, Factors], scope: Scope | None = None, formula: str = "facts"
    ) -> None:
        self.target, self.factors = target, dict(factors)
        self.scope: Scope = scope or Scope()
        self.names: tuple[str, ...] = tuple(factors)
        self.inputs: dict[str, Weights] = {"target": target}
        self.formula: str = formula
        self.about: Json = {name: found.about for name, found in factors.items()}
        known = set(self.scope.names(target))
        for name, (left, right, _) in self.factors.items():
            if name not in known:
                raise SettingError(
                    f"`{name}` is to be changed, and {target.source} has no such parameter in scope.\n"
                    "Facts are written into down projections of MLPs, under their names in the loaded model.\n"
                    "Widen `scope`; of a checkpoint whose loader renames weights, facts cannot be edited."
                )
            if (len(left), right.shape[1]) != target.shape(name):
                raise SettingError(
                    f"`{name}` has shape {target.shape(name)} in {target.source}, and facts were written for "
                    f"({len(left)}, {right.shape[1]}).\nThe loader stores it in another way. Facts cannot be edited."
                )

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.target.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """Some rows, as a sum of outer products, in float32."""
        left, right, _ = self.factors[piece.name]
        total = torch.zeros(piece.last - piece.first, right.shape[1])
        for column, row in zip(left[piece.first : piece.last].T, right, strict=True):
            total += column[:, None] * row
        return total


def make(making: Making) -> Made:
    """Have the facts written, on the loaded target."""
    if making.fit is None:
        raise SettingError("Facts need the model itself.\nEdit them with `sa edit`, or in a fit.")
    factors = making.fit(making.sources)
    count = max(len(found.right) for found in factors.values())
    formula = f"{count} fact{'s' if count > 1 else ''} of {making.sources.facts}"
    return Made(LowRank(making.target, factors, making.scope, formula))


def check(sources: Sources, settings: EditSettings) -> None:
    """Refuse operators that are none of a fact, and several blocks."""
    if sources.facts_layers is not None and len(sources.facts_layers) != 1:
        raise SettingError(
            f"`facts_layers` is {list(sources.facts_layers)}, but a fact is written into one block.\n"
            "To spread it over several, as MEMIT does, is not implemented.\nName one, such as `[5]`."
        )
    if settings.operator not in (None, "add"):
        raise SettingError(
            f"`operator: {settings.operator}` means nothing for facts: what makes the model say them is added.\n"
            "Leave it out."
        )


FACTS = DeltaKind(
    make,
    ("facts",),
    about=("facts_layers", "facts_token", "facts_text", "facts_form", "facts_known"),
    operator="add",
    check=check,
)
