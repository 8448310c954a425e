"""Two thin factors in place of a matrix: exact where its rank is small, else the best of a stated rank."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Factors", "LowRank", "of_factors", "of_matrix", "spectrum"]

Factors = tuple[Float[Tensor, "_rows _rank"], Float[Tensor, "_rank _columns"]]
"""Two matrices whose product is a change of weights, as they are stored."""

_linalg: Any = torch.linalg  # which has no types

NEGLIGIBLE = 1e-7  # of what there is: below what float32 can tell
OVERSAMPLED, PASSES = 16, 3  # of the randomised decomposition
SMALL = 1024  # rows or columns, up to which the decomposition is not randomised
ROWS = 4096  # that are compared at a time


class LowRank(NamedTuple):
    """Two factors in float32 in place of a matrix Δ, with what they leave of it.

    Attributes:
        left: (rows, rank).
        right: (rank, columns); Δ ≈ left right, and both share the singular values alike.
        energy: ‖Δ‖², the sum of squares.
        lost: ‖Δ − left right‖².
    """

    left: Float[Tensor, "_rows _rank"]
    right: Float[Tensor, "_rank _columns"]
    energy: float
    lost: float

    @property
    def rank(self) -> int:
        """The number of columns of the left factor."""
        return self.left.shape[1]

    @property
    def error(self) -> float:
        """‖Δ − left right‖ / ‖Δ‖, or 0 where Δ is zero."""
        return math.sqrt(self.lost / self.energy) if self.energy else 0.0


def of_factors(parts: list[Factors], rank: int | None = None) -> LowRank | None:
    """Sum products of factors, at the rank that the sum has, or at most `rank`; None where the sum is zero.

    In float64, without forming the product: QR of both sides, singular values of the small core.
    """
    left = torch.cat([left.double() for left, _ in parts], 1)
    right = torch.cat([right.double() for _, right in parts], 0)
    (one, core), (other, core_right) = _linalg.qr(left), _linalg.qr(right.T)
    u, s, v = _linalg.svd(core @ core_right.T, full_matrices=False)
    # What is left where products cancel is the rounding of the longest of them.
    longest = max(float(_linalg.norm(one)) * float(_linalg.norm(two)) for one, two in parts)
    kept = min(int((s > NEGLIGIBLE * longest).sum()), rank or len(s))
    if not kept:
        return None
    energy, lost = float((s * s).sum()), float((s[kept:] * s[kept:]).sum())
    root = s[:kept].sqrt()
    left, right = one @ (u[:, :kept] * root), root[:, None] * (v[:kept] @ other.T)
    return LowRank(left.float(), right.float(), energy, lost)


def of_matrix(delta: Float[Tensor, "rows columns"], rank: int) -> LowRank:
    """The best two factors of at most this rank, by the singular values.

    Of a matrix with more than a few rows and columns by a randomised decomposition (Halko et al.,
    https://arxiv.org/abs/0909.4061, with power iterations and a fixed seed): the same factors every time, at an error
    that is near the least possible, and is the one that is reported.
    """
    if delta.shape[0] < delta.shape[1]:
        found = of_matrix(delta.T, rank)
        return found._replace(left=found.right.T.contiguous(), right=found.left.T.contiguous())
    columns = delta.shape[1]
    if columns <= SMALL or 4 * (rank + OVERSAMPLED) >= columns:
        basis = _leading(delta.double().T @ delta.double(), rank)
    else:
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(columns, rank + OVERSAMPLED, generator=generator)
        for _ in range(PASSES):
            basis = _linalg.qr(delta.T @ (delta @ basis))[0]
        product = (delta @ basis).double()
        basis = basis.double() @ _leading(product.T @ product, rank)
    # Δ V Vᵀ, with the columns of Δ V at right angles and V orthonormal; the lengths go to both sides alike.
    basis = _linalg.qr(basis)[0]
    left = _times(delta, basis)
    lengths = _linalg.vector_norm(left, dim=0)
    kept = [index for index in range(len(lengths)) if lengths[index] > NEGLIGIBLE * lengths.max()] or [0]
    root = lengths[kept].sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    left, right = (left[:, kept] / root).float(), (root[:, None] * basis[:, kept].T).float()
    energy = lost = 0.0
    for first in range(0, len(delta), ROWS):
        part = delta[first : first + ROWS]
        energy += _energy(part)
        lost += _energy(part - left[first : first + ROWS] @ right)
    return LowRank(left, right, energy, lost)


def spectrum(delta: Float[Tensor, "rows columns"]) -> Float[Tensor, " least"]:
    """Squares of the singular values of a matrix, the largest first, in float64."""
    wide = delta if delta.shape[0] >= delta.shape[1] else delta.T
    gram = sum(
        (part.T @ part for part in (wide[f : f + ROWS].double() for f in range(0, len(wide), ROWS))),
        torch.zeros(wide.shape[1], wide.shape[1], dtype=torch.float64),
    )
    return _linalg.eigvalsh(gram).flip(0).clamp_min(0)


def _leading(gram: Tensor, rank: int) -> Tensor:
    """The eigenvectors of the largest eigenvalues, the largest first."""
    return _linalg.eigh(gram)[1].flip(1)[:, :rank]


def _times(delta: Tensor, basis: Tensor) -> Tensor:
    return torch.cat([delta[first : first + ROWS].double() @ basis for first in range(0, len(delta), ROWS)])


def _energy(values: Tensor) -> float:
    return float((values.double() ** 2).sum())
