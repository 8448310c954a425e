"""Directions of unpaired prompts: towards refusal (SCANS, arXiv 2408.11491), and without what others share."""

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import DataError
from sa_lightning.steering.typed import floats, norm_of

States = Float[Tensor, "prompts layers d_model"]
PerLayer = Float[Tensor, "layers d_model"]


def refusal_directions(
    harmful: States, harmless: Float[Tensor, "others layers d_model"], unit: bool = True
) -> PerLayer:
    """Mean state of harmful minus that of harmless anchors, per layer: it points towards refusal.

    Eq. 1 of SCANS, at the last token of the template, before the reply; also the candidates of Arditi et al.
    (arXiv 2406.11717, Eq. 1-2). The anchors are not paired, and their numbers may differ. In float64.

    Args:
        harmful: States of harmful anchor prompts.
        harmless: Those of harmless ones.
        unit: Divide by the L2 norm, as SCANS's code does and its paper does not: a strength is then a length in the
            unit of the activations. Without, a strength of 1 is the whole difference.

    Raises:
        DataError: If there are none of a kind, one is not finite, or the means are the same at a layer.
    """
    check_anchors(harmful, "harmful")
    check_anchors(harmless, "harmless")
    difference = harmful.double().mean(0) - harmless.double().mean(0)
    norms = norm_of(difference, keepdim=True)
    equal = [layer for layer, norm in enumerate(floats(norms[:, 0])) if norm == 0]
    if equal:
        raise DataError(
            f"Harmful and harmless anchors have the same mean state at layers {equal}.\n"
            "No direction leads from one to the other.\nAre the two sets of prompts the same?"
        )
    return difference / norms if unit else difference


def without(directions: PerLayer, others: PerLayer, share: float = 1.0) -> PerLayer:
    """Take out of each direction what lies along another: w − share · (w·r̂) r̂, as unit vectors.

    Surgical (Wang et al., arXiv 2410.03415): w leads to false refusals, of borderline prompts minus harmless ones, r to
    true ones, of harmful minus harmless; what is left of w can be ablated at less cost to r. In float64.

    Args:
        directions: w, of any length.
        others: r, of any length; a zero vector takes nothing out.
        share: λ of the paper: 1 makes the two orthogonal, 0 leaves w as it is.

    Raises:
        DataError: If nothing is left at a layer.
    """
    w, r = directions.double(), torch.nn.functional.normalize(others.double(), dim=-1)
    left = w - share * (w * r).sum(-1, keepdim=True) * r
    gone = [i for i, (a, b) in enumerate(zip(norm_of(left), norm_of(w), strict=True)) if not a > 1e-9 * b]
    if gone:
        raise DataError(
            f"At layers {gone}, what leads to false refusals leads to true ones alone.\n"
            "Nothing is left that could be removed at no cost.\nTake other layers, or other borderline prompts."
        )
    return torch.nn.functional.normalize(left, dim=-1)


def check_anchors(states: Tensor, name: str) -> None:
    """Refuse states of anchor prompts where there are none, or where one is not finite."""
    if not len(states):
        raise DataError(
            f"There are no {name} anchors.\nDirections lead from harmless to harmful prompts.\n"
            f"Give some {name} prompts; SCANS takes 64 of each."
        )
    if not bool(torch.isfinite(states).all()):
        raise DataError(
            f"States of {name} anchors are not finite.\nA mean over them would be none.\n"
            "Load the model in a wider type: `--model.dtype bfloat16` or `float32`."
        )
