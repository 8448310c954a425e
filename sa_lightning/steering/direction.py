"""From the states of two sides to one unit vector per layer; the sign is chosen here.

All directions point from the unsafe towards the safe side.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import DataError

States = Float[Tensor, "pairs layers d_model"]
Directions = Float[Tensor, "layers d_model"]


def mean_difference(safe: States, unsafe: States) -> Directions:
    """Mean of safe minus unsafe, per layer, not normalised."""
    return (safe.double() - unsafe.double()).mean(0)


def principal(safe: States, unsafe: States) -> Directions:
    """First principal direction of safe − unsafe, uncentred, each layer by itself.

    This is the in-context safety vector of Safety Arithmetic (arXiv 2406.11801, Eq. 7-8): the
    unit h that maximises Σ (h·safe − h·unsafe)², the top eigenvector of the *uncentred* second
    moment. The paper leaves its sign open; here the mean projection of safe − unsafe on it is
    not negative. If that mean is exactly 0, the largest entry is made positive.
    """
    difference = (safe.double() - unsafe.double()).transpose(0, 1)
    first = torch.linalg.svd(difference, full_matrices=False).Vh[:, 0]
    return _towards(first, difference.mean(1))


def principal_concatenated(safe: States, unsafe: States) -> Directions:
    """The same over all layers laid end to end, as Eq. 5-6 of the paper write it.

    One sign and one weighting for all layers: layers with long states dominate. The segment of
    each layer is returned as it is; the caller normalises it.
    """
    difference = (safe.double() - unsafe.double()).flatten(1)
    first = torch.linalg.svd(difference, full_matrices=False).Vh[:1]
    return _towards(first, difference.mean(0, keepdim=True)).view(safe.shape[1:])


def mean_plus_principal(safe: States, unsafe: States) -> Directions:
    """What the authors' code computes: mean difference plus the centred first component.

    Their PCA subtracts the mean over the demonstrations and adds it back to a component of unit
    length over all layers together, so the mean dominates (declare-lab/safety-arithmetic at
    404fbd5). Their differences are unsafe − safe and the result is subtracted; here both signs
    are turned round. The component's sign follows scikit-learn's `svd_flip` as in their code: the
    entry of the left vector with the largest magnitude is positive, for unsafe − safe.
    """
    difference = (unsafe.double() - safe.double()).flatten(1)
    mean = difference.mean(0)
    if len(difference) == 1:
        return -mean.view(safe.shape[1:])
    u, _, vh = torch.linalg.svd(difference - mean, full_matrices=False)
    sign = torch.sign(u[u[:, 0].abs().argmax(), 0])
    return -(mean + sign * vh[0]).view(safe.shape[1:])


DIRECTIONS: dict[str, Callable[[States, States], Directions]] = {
    "principal": principal,
    "principal_concatenated": principal_concatenated,
    "mean": mean_difference,
    "mean_plus_principal": mean_plus_principal,
}


def fit_directions(safe: States, unsafe: States, method: str = "principal") -> Directions:
    """Fit one unit vector per layer that points from the unsafe towards the safe side.

    Args:
        safe: States after the safe answers, shape (pairs, layers, d_model).
        unsafe: States after the unsafe answers, in the same order.
        method: A name in `DIRECTIONS`.

    Returns:
        Unit vectors, float32, shape (layers, d_model). The arithmetic is in float64.

    Raises:
        DataError: If the states are not finite, or the two sides coincide at some layer.
    """
    for side, states in (("safe", safe), ("unsafe", unsafe)):
        bad = (~torch.isfinite(states).all(-1)).any(0).nonzero().flatten().tolist()
        if bad:
            raise DataError(
                f"The states after the {side} answers are not finite at layers {bad}.\n"
                "A direction through NaN or infinity would break every reply.\n"
                "Load the model in a wider dtype: `--model.dtype float32`; or look for NaN weights."
            )
    directions = DIRECTIONS[method](safe, unsafe)
    same = ((safe - unsafe).abs().amax((0, 2)) == 0) | (directions.norm(dim=-1) == 0)
    if bool(same.any()):
        raise DataError(
            f"Safe and unsafe answers have the same states at layers {same.nonzero().flatten().tolist()}, so no "
            "direction leads from one to the other.\n"
            "The states are read at the last tokens of the answers.\n"
            "Are the two sides of the demonstrations equal there? Read more tokens: `--steering.tokens 4`."
        )
    return torch.nn.functional.normalize(directions, dim=-1).float()


def random_directions(shape: Sequence[int], seed: int) -> Directions:
    """Draw unit vectors uniformly on the sphere: the control for every fitted direction.

    Args:
        shape: (layers, d_model).
        seed: The same seed gives the same vectors on every machine.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def _towards(direction: Tensor, mean: Tensor) -> Tensor:
    """Turn each row so that its product with the mean is positive; at 0, its largest entry."""
    largest = direction.gather(-1, direction.abs().argmax(-1, keepdim=True))
    projection = (direction * mean).sum(-1, keepdim=True)
    return direction * torch.sign(torch.where(projection == 0, largest, projection))
