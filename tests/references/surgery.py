"""Slow, obvious versions of the weight edit, written from the papers: flatten, sort, subtract."""

import math

import torch
from torch import Tensor


def keep_largest(delta: Tensor, density: float) -> Tensor:
    """Mask of all entries at least as large as the k-th largest (TIES-Merging's trim, with `>=`)."""
    magnitudes = [abs(value) for value in delta.reshape(-1).tolist()]
    k = math.floor(density * len(magnitudes) + 0.5)
    if k == 0:
        return torch.zeros_like(delta, dtype=torch.bool)
    cut = sorted(magnitudes, reverse=True)[k - 1]
    return torch.tensor([m >= cut for m in magnitudes], dtype=torch.bool).reshape(delta.shape)


def keep_above(delta: Tensor, density: float) -> Tensor:
    """Mask of all entries strictly larger than the k-th largest."""
    magnitudes = [abs(value) for value in delta.reshape(-1).tolist()]
    k = math.floor(density * len(magnitudes) + 0.5)
    cut = sorted(magnitudes, reverse=True)[k - 1] if k else math.inf
    return torch.tensor([m > cut for m in magnitudes], dtype=torch.bool).reshape(delta.shape)


def flatten(tensors: dict[str, Tensor]) -> Tensor:
    """All entries of all tensors, end to end, in the order of their names."""
    return torch.cat([tensors[name].reshape(-1) for name in sorted(tensors)])


def edit_by_hand(target: Tensor, delta: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Safety Arithmetic, Eq. 4, for one tensor: target − scale · (mask ⊙ delta)."""
    stepped = (target.float() - scale * delta).to(target.dtype)
    edited = target.clone()
    edited[mask] = stepped[mask]
    return edited
