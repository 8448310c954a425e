"""Demonstrations in, steered activations out.

The way: pairs of answers (`demonstrations`) leave states in the stream (`activations`), from
which a unit vector per layer is fitted (`direction`); it acts on the stream (`intervention`)
through hooks (`hooks`), and is kept with its provenance (`artifact`).
"""

from sa_lightning.steering.activations import PairStates, gather_mean
from sa_lightning.steering.artifact import SteeringArtifact
from sa_lightning.steering.demonstrations import Demonstration, read_demonstrations
from sa_lightning.steering.direction import DIRECTIONS, fit_directions, random_directions
from sa_lightning.steering.fingerprint import weights_fingerprint
from sa_lightning.steering.hooks import capture, steering
from sa_lightning.steering.intervention import (
    INTERVENTIONS,
    add,
    add_keep_norm,
    add_keep_norm_adaptive,
    check_strength,
)

__all__ = [
    "DIRECTIONS",
    "INTERVENTIONS",
    "Demonstration",
    "PairStates",
    "SteeringArtifact",
    "add",
    "add_keep_norm",
    "add_keep_norm_adaptive",
    "capture",
    "check_strength",
    "fit_directions",
    "gather_mean",
    "random_directions",
    "read_demonstrations",
    "steering",
    "weights_fingerprint",
]
