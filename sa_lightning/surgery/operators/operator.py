"""What an operator is: where it moves weights, and what it needs to know for that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["Coefficients", "Move", "Operator"]

# (delta, base, target, what is selected, progress) -> a factor of the step for each tensor
Coefficients = Callable[[Delta, Weights, Weights, Chosen, Progress | None], Mapping[str, float]]


class Move(NamedTuple):
    """Some rows that an operator moves as if all their entries were selected, in float32.

    Attributes:
        weight: Of the target.
        delta: Of what is stepped along.
        step: How many times; 0 where there is no step.
        base: Returns those of the base.
    """

    weight: Float[Tensor, "rows columns"]
    delta: Float[Tensor, "rows columns"]
    step: float
    base: Callable[[], Float[Tensor, "rows columns"]]


@dataclass(frozen=True)
class Operator:
    """What happens to the selected entries: a row of `OPERATORS`.

    Attributes:
        move: Returns where the weights go, and the step: as a factor of the delta, or as a tensor.
        steps: Whether it steps along a delta, so that a scale means something.
        scale: How many times, unless told otherwise; None for what the delta suggests.
        compares: Whether it is about how the target differs from the base.
        coefficients: Finds factors of the step, tensor by tensor, on the selected entries.
    """

    move: Callable[[Move], tuple[Tensor, float | Tensor]]
    steps: bool = True
    scale: float | None = None
    compares: bool = False
    coefficients: Coefficients | None = None
