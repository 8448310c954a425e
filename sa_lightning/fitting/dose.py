"""The dose: how far steering moves ordinary states, layer by layer and in all, in one unit for every method."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sa_lightning.fitting.ordinary import OrdinaryStates
from sa_lightning.steering import SteeringArtifact, Step


def doses(
    artifact: SteeringArtifact,
    name: str,
    ordinary: OrdinaryStates,
    strength: float | Mapping[int, float] | None = None,
) -> dict[int, float]:
    """Return the mean length of the step at each steered layer, as a fraction of the typical norm of the stream there.

    It is measured on the states as they are, so that the dose of one layer knows nothing of what layers before it have
    changed; states that are left alone, sinks, count as moved by 0. The stream carries steps on, so the sum over layers
    is how far it is led, were all directions alike.

    Args:
        artifact: With directions and typical norms.
        name: Of the set of weights that the states were read under.
        ordinary: States at the artifact's site.
        strength: Instead of the artifact's.
    """
    taken = artifact.strength if strength is None else strength
    found = {}
    for layer in artifact.steered_layers(name):
        number = taken[layer] if isinstance(taken, Mapping) else taken
        states = ordinary.states[layer]
        direction = artifact.directions[name][layer]
        step = Step(artifact.intervention, direction, number, torch.device("cpu"), *artifact.norms_at(name, layer))
        moved: Tensor = step(states) - states
        found[layer] = float(moved.norm(dim=-1).mean() / ordinary.stream[layer])
    return found
