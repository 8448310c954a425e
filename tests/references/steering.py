"""Slow, obvious versions of the steering mathematics, written from the paper and from the authors' formulas."""

import numpy as np
import torch


def paper_direction(safe, unsafe):
    """Eq. 7-8, one layer: the unit h that maximises the sum of squared projections of safe − unsafe."""
    differences = safe.double().numpy() - unsafe.double().numpy()
    moment = sum(np.outer(d, d) for d in differences) / len(differences)
    values, vectors = np.linalg.eigh(moment)
    h = vectors[:, np.argmax(values)]
    return torch.from_numpy(h if np.mean(differences @ h) > 0 else -h)


def authors_direction(safe, unsafe):
    """The authors' notebook: centred PCA of unsafe − safe over all layers, plus the mean; then subtracted."""
    pairs, layers, width = safe.shape
    differences = (unsafe - safe).double().reshape(pairs, -1).numpy()
    mean = differences.mean(0)
    u, _, vt = np.linalg.svd(differences - mean, full_matrices=False)
    flip = np.sign(u[np.argmax(np.abs(u[:, 0])), 0])
    return torch.from_numpy(-(flip * vt[0] + mean)).reshape(layers, width)


def add_and_rescale(x, u, alpha):
    """Eq. 9-10 with a step of alpha times the norm, state by state."""
    rows = []
    for state in x.double().reshape(-1, x.shape[-1]):
        moved = state + alpha * state.norm() * u.double()
        rows.append(moved * state.norm() / moved.norm() if state.norm() > 0 else state)
    return torch.stack(rows).reshape(x.shape)


def authors_step(x, v, alpha):
    """Their adapter: v = unsafe − safe; normalise(x/|x| − 0.1 α (1 + max(0, cos(x, v))) v/|v|) · |x|."""
    rows = []
    for state in x.double().reshape(-1, x.shape[-1]):
        direction = v.double() / v.double().norm()
        cosine = torch.dot(state, direction) / state.norm()
        factor = 0.1 * alpha * (1 + max(0.0, float(cosine)))
        moved = state / state.norm() - factor * direction
        rows.append(moved / moved.norm() * state.norm())
    return torch.stack(rows).reshape(x.shape)


def removed(x, u, fraction):
    """Arditi et al., Eq. 4, state by state: what lies along u is taken away."""
    rows = [
        state - fraction * torch.dot(state, u.double()) * u.double() for state in x.double().reshape(-1, x.shape[-1])
    ]
    return torch.stack(rows).reshape(x.shape)


def fisher_direction(safe, unsafe):
    """Ledoit and Wolf's shrunken covariance within the sides, written out, inverted in full; one layer."""
    safe, unsafe = safe.double().numpy(), unsafe.double().numpy()
    x = np.concatenate([safe - safe.mean(0), unsafe - unsafe.mean(0)])
    n, d = x.shape
    covariance = x.T @ x / n
    level = np.trace(covariance) / d
    spread = np.sum((covariance - level * np.eye(d)) ** 2)
    noise = sum(np.sum((np.outer(row, row) - covariance) ** 2) for row in x) / n**2
    shrinkage = min(noise, spread) / spread
    shrunken = (1 - shrinkage) * covariance + shrinkage * level * np.eye(d)
    return torch.from_numpy(np.linalg.inv(shrunken) @ (safe.mean(0) - unsafe.mean(0)))


def wins(safe, unsafe):
    """How often a safe value is larger than an unsafe one, pair by pair; ties count half."""
    return float(np.mean([[(a > b) + 0.5 * (a == b) for b in unsafe] for a in safe]))
