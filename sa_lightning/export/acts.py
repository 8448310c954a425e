"""What a rule does at each place, in the few words that formats of others have."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sa_lightning.errors import ArtifactError
from sa_lightning.steering import Rule
from sa_lightning.steering.typed import norm_of

#: Kinds of acts, for people. `Act.length` is what follows the comma.
KINDS = {
    "step": "a step of one length for all tokens",
    "step_keep_norm": "a step of one length after which each state has the norm that it had",
    "relative_step": "a step that is a fraction of the norm of each state",
    "ablation": "full ablation",
    "coordinate": "a coordinate that is set",
    "relative_step_keep_norm": "a step that is a fraction of the norm of each state, which then gets that norm again",
    "adaptive_step": "a step that is longer where a state points to the unsafe side",
    "partial_ablation": "the ablation of a part: others ablate all or nothing",
    "partial_coordinate": "a part of the way to a coordinate",
    "map": "a matrix",
}
#: Of these a constant step is an approximation.
ALMOST_STEPS = frozenset({"step_keep_norm", "relative_step", "relative_step_keep_norm", "adaptive_step"})


@dataclass(frozen=True)
class Act:
    """One change of the output of one module.

    Attributes:
        kind: A name in `KINDS`.
        site: `residual`, `mlp` or `attention` output of the block.
        layer: Of the block, from 0.
        direction: Unit vector (d_model,), float32; of a `map` a matrix.
        length: Of a step in the unit of the activations, or as a fraction of a state's norm; the coordinate; the part.
        said: The intervention with its strength, for people.
    """

    kind: str
    site: str
    layer: int
    direction: Tensor
    length: float
    said: str

    @property
    def step(self) -> Tensor:
        """What is added, of a step: (d_model,), float32."""
        return self.length * self.direction


def acts_of(rule: Rule, weights: str) -> list[Act]:
    """Return what a rule does on the weights of a set, layer by layer; its gate and `sinks` aside.

    Args:
        rule: Of an artifact.
        weights: `original` or `edited`.
    """
    found: list[Act] = []
    for layer in rule.steered_layers(weights):
        strength = rule.strength[layer] if isinstance(rule.strength, dict) else rule.strength
        if rule.is_idle(strength):
            continue
        direction = rule.directions[weights][layer].detach().cpu().float().clone()
        said = f"`{rule.intervention}` with strength {strength:g} (layer {layer}), a {rule.how.unit_of(rule.unit)}"
        kind, length = _kind(rule.intervention, rule.unit == "typical", strength)
        if kind in ("step", "step_keep_norm") and rule.how.relative:
            length = strength * rule.typical_norms[weights][layer]
        if rule.intervention == "match":
            norm = float(norm_of(direction, dim=None))
            direction, length = direction / max(norm, torch.finfo(torch.float32).tiny), norm
        found.append(Act(kind, rule.site, layer, direction, length, said))
    return found


def _kind(intervention: str, typical: bool, strength: float) -> tuple[str, float]:
    if intervention == "add_absolute":
        return "step", strength
    if intervention == "add":
        return "step" if typical else "relative_step", strength
    if intervention == "add_keep_norm":
        return "step_keep_norm" if typical else "relative_step_keep_norm", strength
    if intervention == "ablate":
        return ("ablation", 0.0) if strength == 1 else ("partial_ablation", strength)
    if intervention == "clamp":
        return "coordinate", strength
    if intervention == "match":
        return "coordinate" if strength == 1 else "partial_coordinate", strength
    return {"add_keep_norm_adaptive": "adaptive_step", "add_mapped": "map"}[intervention], strength


def as_step(act: Act, rule: Rule, weights: str) -> Act:
    """Return the constant step that comes nearest: as long as at a state of typical norm, orthogonal to the direction.

    Raises:
        ArtifactError: If the artifact does not know the typical norm.
    """
    if act.kind == "step_keep_norm":
        return replace(act, kind="step")
    typical = rule.typical_norms.get(weights, {}).get(act.layer)
    if typical is None:
        raise ArtifactError(
            f"The artifact has no typical norm of the states at layer {act.layer}.\n"
            "A step of one length takes the place of fractions of it.\nFit it again with `sa fit`."
        )
    strength = rule.strength[act.layer] if isinstance(rule.strength, dict) else rule.strength
    return replace(act, kind="step", length=strength * typical)


def merged(acts: Iterable[Act]) -> list[Act]:
    """Return acts with all steps at one place as their sum, in the order of places."""
    found: dict[tuple[str, int], Act] = {}
    for act in sorted(acts, key=lambda act: (act.layer, act.site)):
        place = act.site, act.layer
        before = found.get(place)
        found[place] = act if before is None else replace(act, direction=before.step + act.step, length=1.0)
    return list(found.values())
