"""Slow, obvious versions of knowledge edits, written from the papers: dense inverses, one fact after the other."""

import torch
from torch import Tensor


def rome(weight: Tensor, covariance: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """ROME, https://arxiv.org/abs/2202.05262, Eq. 2: Ŵ = W + Λ (C⁻¹ k)ᵀ, Λ = (v − W k) / ((C⁻¹ k)ᵀ k); float64."""
    u = covariance.double().inverse() @ key.double()
    gap = value.double() - weight.double() @ key.double()
    return weight.double() + torch.outer(gap / (u @ key.double()), u)


def memit(weight: Tensor, covariance: Tensor, keys: Tensor, values: Tensor, share: float) -> Tensor:
    """MEMIT, https://arxiv.org/abs/2210.07229, Eq. 14: W + R Kᵀ (λ C + K Kᵀ)⁻¹ with columns k, R = V − W K; float64."""
    k, w = keys.double().T, weight.double()
    r = values.double().T - w @ k
    return w + r @ k.T @ (share * covariance.double() + k @ k.T).inverse()


def second_moment(keys: Tensor) -> Tensor:
    """C = mean of k kᵀ, one key after the other; float64."""
    total = torch.zeros(keys.shape[1], keys.shape[1], dtype=torch.float64)
    for key in keys.double():
        total += torch.outer(key, key)
    return total / len(keys)
