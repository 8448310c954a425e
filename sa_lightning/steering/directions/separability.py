"""How well each layer tells the two sides apart, on pairs that its direction was not fitted on."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.steering.directions.paired import coordinates, directions_of

States = Float[Tensor, "pairs layers d_model"]
PerLayer = Float[Tensor, " layers"]
FOLDS = 5


def auroc(safe: Float[Tensor, "n layers"], unsafe: Float[Tensor, "m layers"]) -> PerLayer:
    """Return, per layer, how often a safe value is larger than an unsafe one; ties count half (Mann and Whitney's U).

    All n · m comparisons, by ranks: the area under the receiver operating characteristic. A layer with NaN has NaN. By
    SciPy, which ranks all layers at once; `roc_auc_score` takes one, and refuses NaN.
    """
    from scipy.stats import mannwhitneyu  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    found: Any = mannwhitneyu(safe.double().cpu(), unsafe.double().cpu(), axis=0, method="asymptotic")
    return torch.as_tensor(found.statistic / (len(safe) * len(unsafe)), dtype=torch.float64)


def gap(safe: Float[Tensor, "n layers"], unsafe: Float[Tensor, "m layers"]) -> PerLayer:
    """Return, per layer, the difference of means over the pooled standard deviation; infinite where nothing varies."""
    spread = ((safe.double().var(0, unbiased=False) + unsafe.double().var(0, unbiased=False)) / 2).sqrt()
    return (safe.double().mean(0) - unsafe.double().mean(0)) / spread


def cross_validated(
    safe: States, unsafe: States, method: str = "principal", folds: int = FOLDS
) -> tuple[PerLayer, PerLayer]:
    """Return AUROC and gap per layer on held-out pairs.

    Pair i is held out in fold i mod `folds`; both members together. Direction, sign and zero (half way between the
    means) are fitted on the others, and the coordinates of all held-out states are compared with one another. Fewer
    pairs than folds are left out one by one; a single pair gives NaN.
    """
    folds = min(folds, len(safe))
    if folds < 2:
        nothing = torch.full((safe.shape[1],), torch.nan, dtype=torch.float64)
        return nothing, nothing
    found = torch.zeros(2, *safe.shape[:2], dtype=torch.float64)
    fold = torch.arange(len(safe)) % folds
    for number in range(folds):
        out, rest = fold == number, fold != number
        # Where the others do not differ there is no direction: 0, on which every comparison is a tie.
        direction = torch.nn.functional.normalize(directions_of(safe[rest], unsafe[rest], method), dim=-1)
        middle = (safe[rest].sum(0, dtype=torch.float64) + unsafe[rest].sum(0, dtype=torch.float64)) / (2 * rest.sum())
        zero = (middle * direction).sum(-1)
        for side, states in enumerate((safe, unsafe)):
            found[side, out] = coordinates(states[out], direction) - zero
    return auroc(*found), gap(*found)


def held_out(safe: States, unsafe: States, directions: Float[Tensor, "layers d_model"]) -> tuple[PerLayer, PerLayer]:
    """Return AUROC and gap per layer of states along directions that were fitted on others."""
    safe_side, unsafe_side = coordinates(safe, directions), coordinates(unsafe, directions)
    return auroc(safe_side, unsafe_side), gap(safe_side, unsafe_side)


def choose_layers(layers: Sequence[int], areas: Sequence[float], gaps: Sequence[float], count: int) -> list[int]:
    """Return the `count` layers with the largest AUROC, in order; among equals, those with the larger gap.

    Layers whose AUROC is not known (NaN) come last, and of what is equal in both the earlier layer is taken.
    """
    ranked = sorted(range(len(layers)), key=lambda i: (-_known(areas[i]), -_known(gaps[i]), layers[i]))
    return sorted(layers[index] for index in ranked[:count])


def _known(value: float) -> float:
    return -1.0 if math.isnan(value) else value
