"""What torch leaves without types, with them."""

import torch
from torch import Tensor


def norm_of(x: Tensor, dim: int | None = -1, keepdim: bool = False) -> Tensor:
    """Return the Euclidean norm along a dimension, or of all entries together."""
    return x.norm(dim=dim, keepdim=keepdim)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def floats(x: Tensor) -> list[float]:
    """Return the entries of a vector."""
    return x.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def integers(x: Tensor) -> list[int]:
    """Return the entries of a vector of whole numbers."""
    return x.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def eigenvectors(matrix: Tensor) -> Tensor:
    """Return those of symmetric matrices as columns, by rising eigenvalue."""
    return torch.linalg.eigh(matrix).eigenvectors  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Return x of matrix · x = right."""
    return torch.linalg.solve(matrix, right)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def pseudo_inverse(x: Tensor) -> Tensor:
    """Return that of a symmetric matrix."""
    return torch.linalg.pinv(x, hermitian=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def assert_later(holds: Tensor, message: str) -> None:
    """Assert on the device, which is not waited for; torch has nothing public for it."""
    torch._assert_async(holds, message)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
