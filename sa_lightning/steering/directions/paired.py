"""From the states of two sides to one unit vector per layer; the sign is chosen here.

All directions point from the unsafe towards the safe side: where a method leaves the sign open, the mean projection of
safe − unsafe on the direction is not negative; if it is exactly 0, the largest entry is positive.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import DataError
from sa_lightning.steering.directions.principal import first_component
from sa_lightning.steering.directions.probe import logistic, whitened
from sa_lightning.steering.directions.states import PairMoments
from sa_lightning.steering.typed import integers, norm_of

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
    return _towards(first_component(difference)[0], difference.mean(1))


def principal_centred(safe: States, unsafe: States) -> Directions:
    """First principal component of safe − unsafe around its mean, each layer by itself: what varies most across pairs.

    As `sklearn.decomposition.PCA` of the differences (repeng's `pca_diff` is the uncentred one over both signs). Where
    they do not vary, as with one pair, the mean itself is taken: rounding alone (1e-5 of their size) is no variance.
    """
    difference = (safe.double() - unsafe.double()).transpose(0, 1)
    mean = difference.mean(1)
    centred = difference - mean[:, None]
    varies = centred.square().sum((1, 2)) > 1e-10 * difference.square().sum((1, 2))
    return torch.where(varies[:, None], _towards(first_component(centred)[0], mean), mean)


def principal_concatenated(safe: States, unsafe: States) -> Directions:
    """The same over all layers laid end to end, as Eq. 5-6 of the paper write it.

    One sign and one weighting for all layers: layers with long states dominate. The segment of
    each layer is returned as it is; the caller normalises it.
    """
    difference = (safe.double() - unsafe.double()).flatten(1)
    first = first_component(difference)[0][None]
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
    first, left = first_component(difference - mean)
    left = (difference - mean) @ first if left is None else left
    sign = torch.sign(left[left.abs().argmax()])
    return -(mean + sign * first).view(safe.shape[1:])


DIRECTIONS: dict[str, Callable[[States, States], Directions]] = {
    "principal": principal,
    "principal_centred": principal_centred,
    "principal_concatenated": principal_concatenated,
    "mean": mean_difference,
    "mean_plus_principal": mean_plus_principal,
    "probe": logistic,
    "whitened": whitened,
}

# These look at all layers together; the others go layer by layer, so that one layer at a time is held in float64.
TOGETHER = ("principal_concatenated", "mean_plus_principal")


def directions_of(safe: States, unsafe: States, method: str) -> Directions:
    """Return a method's direction per layer, float64, of any length; 0 where the sides do not differ."""
    if method in TOGETHER:
        return DIRECTIONS[method](safe, unsafe)
    layers = range(safe.shape[1])
    return torch.cat([DIRECTIONS[method](safe[:, layer, None], unsafe[:, layer, None]) for layer in layers])


def coordinates(states: States, directions: Directions) -> Float[Tensor, "pairs layers"]:
    """Return the products of states with the direction of their layer, in float64."""
    layers = range(states.shape[1])
    return torch.stack([states[:, layer].double() @ directions[layer].double() for layer in layers], dim=1)


def fit_directions(
    safe: States, unsafe: States, method: str = "principal", layers: Sequence[int] | None = None
) -> Directions:
    """Fit one unit vector per layer that points from the unsafe towards the safe side.

    Args:
        safe: States after the safe answers, shape (pairs, layers, d_model).
        unsafe: States after the unsafe answers, in the same order.
        method: A name in `DIRECTIONS`.
        layers: Which layers the states are of, for messages; 0, 1, … if not set.

    Returns:
        Unit vectors, float32, shape (layers, d_model). The arithmetic is in float64.

    Raises:
        DataError: If the states are not finite, or the two sides coincide at some layer.
    """
    for side, states in (("safe", safe), ("unsafe", unsafe)):
        _refuse_not_finite(torch.isfinite(states).all(-1).all(0), f"after the {side} answers", layers)
    different = (safe - unsafe).abs().amax((0, 2)) > 0
    return _unit(directions_of(safe, unsafe, method), different, layers)


def fit_directions_from_sums(
    moments: PairMoments, method: str = "principal", layers: Sequence[int] | None = None
) -> Directions:
    """Fit the same from sums over pairs; `mean`, `principal` and `principal_centred` are known to them.

    Raises:
        DataError: As `fit_directions`.
        SettingError: If the method needs the states themselves.
    """
    _refuse_not_finite(torch.isfinite(moments.norms), "after the answers", layers)
    direction = moments.direction(method)
    mean = moments.direction("mean")
    differ = moments.second.diagonal(dim1=1, dim2=2).sum(-1) if len(moments.second) else mean.abs().amax(-1)
    return _unit(direction if method == "mean" else _towards(direction, mean), differ > 0, layers)


def _named(wrong: Tensor, layers: Sequence[int] | None) -> list[int]:
    """The layers that are meant by a mask over those read."""
    found = integers(wrong.nonzero().flatten())
    return found if layers is None else [layers[index] for index in found]


def _refuse_not_finite(finite: Tensor, where: str, layers: Sequence[int] | None) -> None:
    if not bool(finite.all()):
        raise DataError(
            f"The states {where} are not finite at layers {_named(~finite, layers)}.\n"
            "A direction through NaN or infinity would break every reply.\n"
            "Load the model in a wider dtype: `--model.dtype float32`; or look for NaN weights."
        )


def _unit(directions: Directions, different: Tensor, layers: Sequence[int] | None) -> Directions:
    same = ~different | (norm_of(directions) == 0)
    if bool(same.any()):
        raise DataError(
            f"Safe and unsafe passages have the same states at layers {_named(same, layers)}, so no direction leads "
            "from one to the other.\n"
            "States at a token that both sides share, as before the answers, are the same.\n"
            "Are the two sides equal there? Read at another place, `--steering.position last`, or more tokens: "
            "`--steering.tokens 4`."
        )
    return torch.nn.functional.normalize(directions, dim=-1).float()


def _towards(direction: Tensor, mean: Tensor) -> Tensor:
    """Turn each row so that its product with the mean is positive; at 0, its largest entry."""
    largest = direction.gather(-1, direction.abs().argmax(-1, keepdim=True))
    projection = (direction * mean).sum(-1, keepdim=True)
    return direction * torch.sign(torch.where(projection == 0, largest, projection))
