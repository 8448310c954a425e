"""Demonstrations in, steered activations out.

The way: pairs of answers (`demonstrations`) leave states in the stream, from which a unit vector per layer is fitted,
as directions of unpaired prompts are (`directions`). It acts on the stream (`intervention`) through hooks (`runtime`);
a gate says, prompt by prompt, how strongly (`gates`). What was fitted is kept with its provenance (`artifact`), and
with the chat template that it was fitted in (`template`).
"""

from sa_lightning.steering.artifact.artifact import PAIRS, SteeringArtifact
from sa_lightning.steering.artifact.fingerprint import weights_fingerprint
from sa_lightning.steering.artifact.rule import Rule
from sa_lightning.steering.artifact.rule_settings import RuleSettings, fit_rule
from sa_lightning.steering.demonstrations import Demonstration, read_demonstrations
from sa_lightning.steering.directions.controls import Control, random_directions, shuffled
from sa_lightning.steering.directions.fitting import fit_pairs
from sa_lightning.steering.directions.null_space import null_space_map, null_space_projector
from sa_lightning.steering.directions.paired import DIRECTIONS, fit_directions, fit_directions_from_sums
from sa_lightning.steering.directions.separability import auroc, choose_layers
from sa_lightning.steering.directions.states import PairMoments, PairStates, gather_mean
from sa_lightning.steering.directions.unpaired import refusal_directions, without
from sa_lightning.steering.directions.vocabulary import Segment, choose_segment, project, segments_of
from sa_lightning.steering.gates.combined import AlwaysGate, ExemptingGate, JoinedGate
from sa_lightning.steering.gates.condition import ConditionGate
from sa_lightning.steering.gates.fitted import FittedGate
from sa_lightning.steering.gates.fitting import GateState, fit_gate, fit_joined
from sa_lightning.steering.gates.gate import Anchors, Gate, Reading
from sa_lightning.steering.gates.linear import LinearGate, fit_linear_gate, threshold_at_recall, threshold_between
from sa_lightning.steering.gates.policy import Band, Policy
from sa_lightning.steering.gates.record import GateRecord
from sa_lightning.steering.gates.settings import GateSettings
from sa_lightning.steering.gates.transition import TransitionGate, transition_reference, transition_scores
from sa_lightning.steering.intervention import (
    INTERVENTIONS,
    Step,
    ablate,
    add,
    add_absolute,
    add_keep_norm,
    add_keep_norm_adaptive,
    add_mapped,
    check_strength,
    clamp,
    match,
    times,
)
from sa_lightning.steering.runtime.component import Component
from sa_lightning.steering.runtime.conditional import conditional
from sa_lightning.steering.runtime.decision import Decisions
from sa_lightning.steering.runtime.hooks import capture, steering
from sa_lightning.steering.runtime.prompt_lengths import prompt_lengths
from sa_lightning.steering.runtime.self_contrast import SelfContrast

__all__ = [
    "DIRECTIONS",
    "INTERVENTIONS",
    "PAIRS",
    "AlwaysGate",
    "Anchors",
    "Band",
    "Component",
    "ConditionGate",
    "Control",
    "Decisions",
    "Demonstration",
    "ExemptingGate",
    "FittedGate",
    "Gate",
    "GateRecord",
    "GateSettings",
    "GateState",
    "JoinedGate",
    "LinearGate",
    "PairMoments",
    "PairStates",
    "Policy",
    "Reading",
    "Rule",
    "RuleSettings",
    "Segment",
    "SelfContrast",
    "SteeringArtifact",
    "Step",
    "TransitionGate",
    "ablate",
    "add",
    "add_absolute",
    "add_keep_norm",
    "add_keep_norm_adaptive",
    "add_mapped",
    "auroc",
    "capture",
    "check_strength",
    "choose_layers",
    "choose_segment",
    "clamp",
    "conditional",
    "fit_directions",
    "fit_directions_from_sums",
    "fit_gate",
    "fit_joined",
    "fit_linear_gate",
    "fit_pairs",
    "fit_rule",
    "gather_mean",
    "match",
    "null_space_map",
    "null_space_projector",
    "project",
    "prompt_lengths",
    "random_directions",
    "read_demonstrations",
    "refusal_directions",
    "segments_of",
    "shuffled",
    "steering",
    "threshold_at_recall",
    "threshold_between",
    "times",
    "transition_reference",
    "transition_scores",
    "weights_fingerprint",
    "without",
]
