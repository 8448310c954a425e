"""The operators, by the names that `operator` has for them."""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta, coefficient
from sa_lightning.surgery.operators.operator import Move, Operator
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["OPERATORS", "Operation"]


def stepped(move: Move) -> tuple[Tensor, float]:
    """Return w − step · δ: two roundings, never a fused multiply-add, so that every device gives the same bits."""
    return move.weight - move.delta * move.step, move.step


def restored(move: Move) -> tuple[Tensor, Tensor]:
    """The base's w₀, a step of w − w₀."""
    value = move.base()
    return value, move.weight - value


def coefficients(
    delta: Delta, base: Weights, target: Weights, chosen: Chosen, progress: Progress | None
) -> dict[str, float]:
    """⟨target − base, m ⊙ δ⟩ / ⟨m ⊙ δ, m ⊙ δ⟩ of each tensor; 0 where nothing is selected."""
    sums = {name: [0.0, 0.0] for name in delta.names}

    def products(piece: Slice) -> tuple[float, float]:
        rows = delta.rows(piece)
        kept = torch.where(chosen.keep(piece, rows), rows, 0.0).reshape(-1).double()
        own = (target.rows(piece).float() - base.rows(piece).float()).reshape(-1).double()
        return float(torch.dot(own, kept)), float(torch.dot(kept, kept))

    for piece, found in over(products, delta.names, delta.shape, "projecting", progress):
        sums[piece.name] = [a + b for a, b in zip(sums[piece.name], found, strict=True)]
    return {name: coefficient(along, energy) for name, (along, energy) in sums.items()}


OPERATORS: dict[str, Operator] = {
    "subtract": Operator(stepped),
    "add": Operator(lambda move: stepped(move._replace(step=-move.step))),
    "project": Operator(stepped, scale=1.0, compares=True, coefficients=coefficients),  # once: all of it, and no more
    "zero": Operator(lambda move: (torch.zeros_like(move.weight), move.weight), steps=False),
    "restore": Operator(restored, steps=False, compares=True),
}

if TYPE_CHECKING:
    Operation = str
else:
    Operation = Literal[tuple(OPERATORS)]  # the choices of options are the rows
