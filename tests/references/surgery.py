"""Slow, obvious versions of the weight edit, written from the papers: flatten, sort, subtract."""

import hashlib
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


def knowledge_edited_by_hand(
    target: dict[str, Tensor], delta: dict[str, Tensor], area: list[int], density: float, scale: float
) -> dict[str, Tensor]:
    """What the authors' code makes of an edited model: trimmed within the blocks of the area, untrimmed elsewhere."""
    inside = [name for name in target if any(f".layers.{layer}." in name for layer in area)]
    mask = keep_largest(flatten({name: delta[name] for name in inside}), density)
    cut = flatten({name: delta[name] for name in inside}).abs()[mask].min()
    found = {}
    for name, weight in target.items():
        kept = delta[name] * (delta[name].abs() >= cut) if name in inside else delta[name]
        found[name] = weight - scale * kept
    return found


def split_mix(start: int, index: int) -> int:
    """SplitMix64, one number at a time, in Python's own integers; the low 63 bits."""
    mask = (1 << 64) - 1
    z = (index * 0x9E3779B97F4A7C15 + start) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) & ((1 << 63) - 1)


def lot(seed: int, purpose: str, name: str, index: int) -> int:
    """The number drawn for one entry of one parameter."""
    start = int.from_bytes(hashlib.sha256(f"{seed}\t{purpose}\t{name}".encode()).digest()[:8], "little")
    return split_mix(start, index)


def keep_split(tensors: dict[str, Tensor], density: float, seed: int = 0) -> dict[str, Tensor]:
    """Exactly k entries: sort all of them by magnitude, then by the number drawn for them."""
    entries = [
        (abs(value), lot(seed, "ties", name, index), name, index)
        for name, delta in tensors.items()
        for index, value in enumerate(delta.reshape(-1).tolist())
    ]
    k = math.floor(density * len(entries) + 0.5)
    masks = {name: torch.zeros(delta.numel(), dtype=torch.bool) for name, delta in tensors.items()}
    for _, _, name, index in sorted(entries, reverse=True)[:k]:
        masks[name][index] = True
    return {name: mask.reshape(tensors[name].shape) for name, mask in masks.items()}


def ties_by_hand(deltas: list[Tensor], masks: list[Tensor], weights: list[float]) -> Tensor:
    """TIES-Merging, entry by entry: trim, elect the sign of the larger total, average what agrees."""
    merged = []
    columns = zip(*(d.reshape(-1).tolist() for d in deltas), strict=True)
    kept = zip(*(m.reshape(-1).tolist() for m in masks), strict=True)
    for values, keep in zip(columns, kept, strict=True):
        trimmed = [(v * w, w) for v, w, k in zip(values, weights, keep, strict=True) if k and v != 0]
        total = sum(v for v, _ in trimmed)
        agree = [(v, w) for v, w in trimmed if v * total > 0]
        merged.append(sum(v for v, _ in agree) / sum(w for _, w in agree) if agree else 0.0)
    return torch.tensor(merged).reshape(deltas[0].shape)


def orthogonalised_by_hand(delta: Tensor, along: Tensor) -> Tensor:
    """A vector without its component along another, in float64."""
    delta, along = delta.double(), along.double()
    return delta - (delta @ along) / (along @ along) * along


def fisher_by_hand(gradients: list[Tensor], delta: Tensor) -> Tensor:
    """The diagonal empirical Fisher information times the squared step, entry by entry, in float64."""
    columns = zip(*(g.reshape(-1).tolist() for g in gradients), strict=True)
    fisher = [sum(g * g for g in column) / len(gradients) for column in columns]
    steps = delta.reshape(-1).tolist()
    return torch.tensor([f * d * d for f, d in zip(fisher, steps, strict=True)], dtype=torch.float64)
