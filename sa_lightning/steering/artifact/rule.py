"""A rule: directions, how they act, how strongly, and at which prompts."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sa_lightning.errors import ArtifactError, SettingError
from sa_lightning.files import Json
from sa_lightning.steering.directions.controls import random_directions
from sa_lightning.steering.gates.fitted import UNGATED, FittedGate
from sa_lightning.steering.gates.gate import Gate
from sa_lightning.steering.gates.policy import Policy
from sa_lightning.steering.intervention import INTERVENTIONS, Intervention, check_strength, times
from sa_lightning.steering.typed import norm_of

UNITS = ("state", "typical")
SITES = ("residual", "mlp", "attention")


@dataclass
class Rule:
    """One way to steer, for one or more sets of weights.

    Attributes:
        directions: Set name (`original`, `edited`: the weights they were fitted on) to layer to unit
            vector of shape (d_model,), float32, pointing towards the safe side; of some interventions, a vector of
            another length, or a matrix (`INTERVENTIONS`).
        site: Where the directions act: `residual`, `mlp` or `attention` output of a block.
        intervention: A name in `INTERVENTIONS`.
        strength: In the unit of the intervention: a number for all layers, or one per layer, of which those not
            named are not steered.
        unit: What a relative strength (`add` interventions) is a fraction of: the `typical` norm at the layer, or the
            norm of each `state`.
        sinks: States longer than so many typical norms are left as they are: attention sinks; None leaves none.
        typical_norms: Set name to layer to the median norm of ordinary states where the directions act.
        dose: Set name to layer to the mean length of the step over ordinary states, as a fraction of the typical norm
            of the residual stream behind that layer, whatever the site, intervention and unit.
        gate: Which prompts are steered; None steers all alike.
        only_prompt: Whether it acts on no token of the reply: on the last token of the prompt that its gate has read,
            or, where the gate has `whole_prompt` or there is none, on all of the prompt.
        extraction: How the directions were found: direction, position, tokens, capture_site, ….
        statistics: Per set: the layers that were read and, for each, norms and separability (`fit_pairs`).
    """

    directions: dict[str, dict[int, Tensor]]
    site: str = "residual"
    intervention: str = "add_keep_norm"
    strength: float | dict[int, float] = 0.1
    unit: str = "state"
    sinks: float | None = None
    typical_norms: dict[str, dict[int, float]] = field(default_factory=dict[str, dict[int, float]])
    dose: dict[str, dict[int, float]] = field(default_factory=dict[str, dict[int, float]])
    gate: FittedGate | None = None
    only_prompt: bool = False
    extraction: Json = field(default_factory=Json)
    statistics: dict[str, dict[str, list[Any]]] = field(default_factory=dict[str, dict[str, list[Any]]])

    @property
    def how(self) -> Intervention:
        """The intervention."""
        return INTERVENTIONS[self.intervention]

    @property
    def needs_norms(self) -> bool:
        """Whether steering looks at typical norms: for the unit of the strength, or to leave sinks alone."""
        return self.sinks is not None or (self.unit == "typical" and self.how.relative)

    @property
    def whole_prompt(self) -> bool:
        """Whether all tokens of a prompt are steered, and not the last one alone."""
        return self.gate is None or self.gate.settings.whole_prompt

    @property
    def factor(self) -> float:
        """By what its strength is multiplied at prompts that its gate takes for positive."""
        return 1.0 if self.gate is None else self.gate.settings.positive_factor

    def steered_layers(self, name: str) -> list[int]:
        """Return the layers that are steered on the weights of a set: those with a direction and a strength."""
        layers = self.directions.get(name, {})
        return sorted(layer for layer in layers if not isinstance(self.strength, dict) or layer in self.strength)

    def norms_at(self, name: str, layer: int) -> tuple[float | None, float | None]:
        """Return what a `Step` at a layer takes: the typical norm its strength is a fraction of, and the limit."""
        if not self.needs_norms:
            return None, None
        typical = self.typical_norms[name][layer]
        fraction = typical if self.unit == "typical" and self.how.relative else None
        return fraction, None if self.sinks is None else self.sinks * typical

    def gate_of(self, name: str) -> tuple[Gate, Policy]:
        """Return the gate of a set of weights, and what is done at its scores; without one, all prompts are steered."""
        return UNGATED if self.gate is None else self.gate.of(name)

    def is_idle(self, strength: float | Mapping[int, float]) -> bool:
        """Whether a strength changes nothing."""
        numbers = strength.values() if isinstance(strength, Mapping) else [strength]
        return self.how.neutral and not any(numbers)

    def randomised(self, num_layers: int, d_model: int, seed: int) -> "Rule":
        """Return the same rule with random unit directions: the control of equal strength."""
        shape = self.how.shape(d_model)
        drawn = random_directions((num_layers, math.prod(shape)), seed).view(num_layers, *shape)
        one = self.extraction.get("of_layer") is not None  # one direction for all layers
        # What is no unit vector is as long as what it takes the place of.
        replaced = {
            name: {
                layer: drawn[0 if one else layer] * (norm_of(direction, dim=None).cpu() if self.how.sized else 1.0)
                for layer, direction in layers.items()
            }
            for name, layers in self.directions.items()
        }
        return dataclasses.replace(self, directions=replaced)

    def ungated(self) -> "Rule":
        """Return the same rule steering every prompt, as one that its gate takes for positive."""
        return dataclasses.replace(self, strength=times(self.strength, self.factor), gate=None)

    def check(self, num_layers: int, d_model: int) -> None:
        """Refuse what could not be applied to a model of this shape.

        Raises:
            ArtifactError: With what is wrong.
        """
        if self.intervention not in INTERVENTIONS:
            raise ArtifactError(
                f"This artifact asks for intervention `{self.intervention}`, but this version knows "
                f"{', '.join(INTERVENTIONS)}.\n"
                "Applying something else would not be what was measured.\n"
                "Upgrade sa_lightning, or fit the artifact again."
            )
        try:
            check_strength(self.strength, self.intervention)
            if self.gate is not None:
                self.gate.settings.check(self.strength, self.intervention)
        except (SettingError, TypeError) as error:
            raise ArtifactError(
                f"This artifact asks for strength {self.strength!r}, which `{self.intervention}` cannot take: "
                f"{str(error).splitlines()[0]}\nIt could not be applied.\nFit the artifact again with `sa fit`."
            ) from error
        self._check_norms()
        if self.gate is not None:
            self.gate.check(num_layers, d_model)
        for name, layers in self.directions.items():
            for layer, direction in layers.items():
                if not 0 <= layer < num_layers or tuple(direction.shape) != self.how.shape(d_model):
                    raise ArtifactError(
                        f"Direction `{name}.layers.{layer}` has shape {tuple(direction.shape)}, but the model has "
                        f"{num_layers} layers and d_model {d_model}.\n"
                        "Each direction is added to the stream behind one layer.\n"
                        "Fit the artifact again with `sa fit`."
                    )
                if not bool(torch.isfinite(direction).all()):
                    raise ArtifactError(
                        f"Direction `{name}.layers.{layer}` has values that are not finite.\n"
                        "They would break every reply.\nFit the artifact again with `sa fit`."
                    )

    def _check_norms(self) -> None:
        """Refuse an unknown unit, and typical norms that are needed and missing, or not positive."""
        if self.site not in SITES:
            raise ArtifactError(
                f"This artifact acts on the `{self.site}` output of blocks, but there are {', '.join(SITES)}.\n"
                "Another place would not be what was measured.\nUpgrade sa_lightning, or fit the artifact again."
            )
        if self.unit not in UNITS or not (self.sinks is None or self.sinks >= 1):
            raise ArtifactError(
                f"This artifact has strengths in the unit `{self.unit}` and sinks from {self.sinks} typical norms on; "
                f"there are the units {', '.join(UNITS)}, and sinks from 1 on.\n"
                "Another step would not be what was measured.\nUpgrade sa_lightning, or fit the artifact again."
            )
        wrong = [
            f"{name}.{layer}"
            for name, layers in self.directions.items()
            for layer in layers
            if self.needs_norms and not 0 < self.typical_norms.get(name, {}).get(layer, 0) < math.inf
        ]
        if wrong:
            raise ArtifactError(
                f"This artifact has no typical norm for {len(wrong)} of its layers, such as {wrong[0]}.\n"
                "Its strength is a fraction of them, or sinks are known by them.\nFit the artifact again with `sa fit`."
            )
