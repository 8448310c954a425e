"""What an adapter makes of one tensor: a low-rank step, DoRA's rescaling, a step of a bias, other values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sa_lightning.surgery.checkpoints.slices import Slice, slices

__all__ = ["BiasStep", "Change", "LowRank", "Replaced"]

Rows = Callable[[Slice], Tensor]


@dataclass
class LowRank:
    """W + scale · B A, in float32; with a magnitude m, DoRA: m ⊙ (W + scale · B A) / ‖W + scale · B A‖ (per output).

    LoRA: Hu et al., https://arxiv.org/abs/2106.09685; DoRA: Liu et al., https://arxiv.org/abs/2402.09353, as peft
    merges it.

    Attributes:
        read: Reads a factor by its key.
        a, b: Keys of the factors, of shapes (rank, inputs) and (outputs, rank).
        scale: alpha / r, or alpha / √r with `use_rslora`.
        flipped: Whether W is stored as (inputs, outputs).
        magnitude: Key of DoRA's magnitudes, one for each output.
        plain: Reads rows of W, in float32, for the norms of a flipped W.
        shape: Of W.
    """

    read: Callable[[str], Tensor]
    a: str
    b: str
    scale: float
    flipped: bool
    magnitude: str | None
    plain: Rows
    shape: tuple[int, ...]

    def rows(self, piece: Slice, weight: Tensor) -> Tensor:
        stepped = self._stepped(piece, weight)
        if self.magnitude is None:
            return stepped
        magnitude = self.read(self.magnitude).float().reshape(-1)
        if self.flipped:
            return stepped * (magnitude / self._norms_of_columns)
        norms = stepped.square().sum(1).sqrt()
        return stepped * (magnitude[piece.first : piece.last] / norms)[:, None]

    def product(self) -> tuple[Tensor, Tensor] | None:
        """Two matrices in float32, (rows, rank) and (rank, columns), whose product is added; None with magnitudes."""
        if self.magnitude is not None:
            return None
        a, b = self.read(self.a).float(), self.read(self.b).float() * self.scale
        return (a.T, b.T) if self.flipped else (b, a)

    def _stepped(self, piece: Slice, weight: Tensor) -> Tensor:
        a, b = self.read(self.a).float(), self.read(self.b).float()
        rows = slice(piece.first, piece.last)
        product = (b @ a[:, rows]).T if self.flipped else b[rows] @ a
        return weight + product * self.scale

    @cached_property
    def _norms_of_columns(self) -> Tensor:
        """Norm of each column of W + scale · B A, by one pass over all its rows."""
        squares = torch.zeros(self.shape[-1], dtype=torch.float64)
        for piece in slices("", self.shape):
            squares += self._stepped(piece, self.plain(piece)).double().square().sum(0)
        return squares.sqrt().float()


@dataclass
class BiasStep:
    """b + scale · (the bias of B), as `lora_bias` has it."""

    read: Callable[[str], Tensor]
    key: str
    scale: float

    def rows(self, piece: Slice, weight: Tensor) -> Tensor:
        return weight + self.read(self.key).float()[piece.first : piece.last, None] * self.scale


@dataclass
class Replaced:
    """Other values: of a module to save, or of a bias that was trained."""

    stored: Rows
    key: str

    def rows(self, piece: Slice, weight: Tensor) -> Tensor:
        return self.stored(piece._replace(name=self.key)).float()


Change = LowRank | BiasStep | Replaced


def lora_scale(alpha: float, rank: int, stabilised: bool) -> float:
    """Give alpha / rank, or alpha / √rank with `use_rslora`: https://arxiv.org/abs/2312.03732."""
    return alpha / (math.sqrt(rank) if stabilised else rank)
