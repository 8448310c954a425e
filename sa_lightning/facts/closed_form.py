"""The closed form: the least change of W that maps given keys to given values, as factors."""

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import NothingToDoError

__all__ = ["RIDGE", "closed_form"]

RIDGE = 1e-3  # of the mean of C's diagonal, added to it: text has fewer tokens than a wide C has directions


def closed_form(
    covariance: Float[Tensor, "d_ff d_ff"],
    keys: Float[Tensor, "facts d_ff"],
    steps: Float[Tensor, "facts d_model"],
    weight: float = 0.0,
) -> tuple[Float[Tensor, "d_model facts"], Float[Tensor, "facts d_ff"]]:
    """Return Λ and U with ΔW = Λ U, the change of W of least ‖ΔW C^½‖ with ΔW kᵢ = stepᵢ.

    Of one fact this is ROME (https://arxiv.org/abs/2202.05262, Eq. 2): U = (C⁻¹ k)ᵀ, Λ = (v − W k) / ((C⁻¹ k)ᵀ k). Of
    several, MEMIT's R Kᵀ (λ C + K Kᵀ)⁻¹ (https://arxiv.org/abs/2210.07229, Eq. 14), which by Woodbury's identity is
    R (λ I + Kᵀ C⁻¹ K)⁻¹ Kᵀ C⁻¹; with λ = 0 every fact is met exactly.

    Args:
        covariance: C, symmetric; a ridge of `RIDGE` of its mean diagonal is added.
        keys: k of each fact.
        steps: v − W k of each fact.
        weight: MEMIT's λ.

    Returns:
        Both in float64.

    Raises:
        NothingToDoError: If two facts have the same key, so that no change can meet both.
    """
    c = covariance.double()
    c = c + RIDGE * c.diagonal().mean() * torch.eye(len(c), dtype=c.dtype)
    k = keys.double()
    u = torch.linalg.solve(c, k.T).T  # pyright: ignore[reportUnknownMemberType]
    inner = u @ k.T
    scale = inner.diagonal().mean()
    if len(k) > 1 and not weight and float(torch.linalg.cond(inner)) > 1e12:  # pyright: ignore[reportUnknownMemberType]
        raise NothingToDoError(
            f"Two of the {len(k)} facts have the same key: the model reads their subjects alike.\n"
            "One change of weights cannot map a key to two values.\nLeave out facts with the same subject."
        )
    inner = inner + weight * scale * torch.eye(len(k), dtype=c.dtype)
    return torch.linalg.solve(inner.T, steps.double()).T, u  # pyright: ignore[reportUnknownMemberType]
