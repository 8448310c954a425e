"""First principal components of many vectors in many dimensions, through the smaller of the two matrices."""

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.steering.typed import eigenvectors, norm_of

SMALL = 512  # up to this size all eigenvectors are as cheap as one


def first_component(
    rows: Float[Tensor, "*batch n d"],
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch n"] | None]:
    """Return the unit v that maximises the sum of squared products with the rows: their first right singular vector.

    Nothing is centred here. With fewer rows than dimensions it comes from their Gram matrix (n × n), otherwise from
    their second moment (d × d). Float64; the sign is arbitrary; all rows 0 give 0.

    Returns:
        v, and, where it came from the Gram matrix, the left vector that belongs to it.
    """
    n, d = rows.shape[-2:]
    if n > d:
        first = top_eigenvector(rows.mT @ rows)
        return torch.where((rows == 0).all(-1).all(-1)[..., None], 0, first), None
    left = top_eigenvector(rows @ rows.mT)
    return torch.nn.functional.normalize((left[..., None, :] @ rows).squeeze(-2), dim=-1), left


def top_eigenvector(matrix: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d"]:
    """Return the eigenvector of the largest eigenvalue of symmetric, positive matrices; its sign is arbitrary.

    Large ones by LOBPCG from a fixed start; where that has not converged after 500 steps, in full.
    """
    size = matrix.shape[-1]
    if size <= SMALL:
        return eigenvectors(matrix)[..., -1]
    flat = matrix.reshape(-1, size, size)
    return torch.stack([_largest(single) for single in flat]).reshape(matrix.shape[:-1])


def _largest(matrix: Tensor) -> Tensor:
    start = torch.randn(size := len(matrix), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, vectors = torch.lobpcg(matrix, X=start.to(matrix), niter=500, tol=1e-10)
    vector = vectors[:, 0]
    largest = values[0].abs().clamp(min=torch.finfo(matrix.dtype).tiny)
    residual = norm_of(matrix @ vector - values[0] * vector, dim=None) / largest
    return vector if bool(residual < 1e-6 * size**0.5) else eigenvectors(matrix)[:, -1]
