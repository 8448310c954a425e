"""Rules that are fitted on prompts before they are answered: their settings, and the fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering.directions.prompted import PROMPTED, Prompted
from sa_lightning.steering.directions.vocabulary import segments_of
from sa_lightning.steering.gates.settings import GateSettings
from sa_lightning.steering.intervention import INTERVENTIONS, check_strength

if TYPE_CHECKING:
    FromPrompts = str
    Acting = str
else:
    FromPrompts = Literal[tuple(PROMPTED)]
    Acting = Literal[tuple(name for name, known in INTERVENTIONS.items() if not known.mapped)]

States = Float[Tensor, "prompts layers d_model"]


@dataclass(frozen=True)
class RuleSettings:
    """One more way to steer, fitted on prompts before they are answered, with a gate of its own.

    Args:
        direction: `refusal` leads from harmless to harmful prompts, which a positive strength has refused (Arditi et
            al., arXiv 2406.11717; SCANS, arXiv 2408.11491). `false_refusal` leads from harmless to borderline ones,
            less what of it leads to true refusals (Surgical, arXiv 2410.03415): to be removed. `null_space` adds to
            each state a map of itself, which hardly moves what is harmless or borderline (AlphaSteer, arXiv
            2506.07022).
        prompts: JSON Lines with `prompt` and `kind`; if not set, those of the gate, else the demonstrations.
        per_kind: Most prompts of a kind.
        orthogonal: Of `false_refusal`, the share of what lies along `refusal` that is taken out: 1 is all of it.
        free: Of `null_space`, the share of dimensions in which benign states have the least energy, to steer in.
        ridge: Of `null_space`: larger ones steer less.
        layers: Blocks to steer behind, from 0; all if not set.
        segment: In place of `layers`, one of three spans of like length.
        only_prompt: Steer no token of the reply: with a gate, the last token of the prompt alone, or with its
            `whole_prompt`, and without a gate, all of the prompt. What was fitted there may be wrong for replies, as
            the coordinates of `match` are.
        of_layer: Take the direction of this layer for all of them, as directional ablation does.
        intervention: As `steering.intervention`; or `match`, which leads the coordinate along the direction to that of
            the mean harmless prompt, where `ablate` leads it to 0. If not set, `ablate` for `false_refusal`, and a step
            of its own for `null_space`, which takes no other.
        strength: In the unit of the intervention, as `steering.strength`, `auto` and `steering.unit` included; if not
            set, 1 for `ablate`, `match` and `null_space`, else `auto`.
        gate: Which prompts this rule steers, and which way.
    """

    direction: FromPrompts = "refusal"
    prompts: str | None = None
    per_kind: int = 64
    orthogonal: float = 1.0
    free: float = 0.5
    ridge: float = 10.0
    layers: list[int] | None = None
    segment: Literal["none", "first", "middle", "last"] = "none"
    only_prompt: bool = False
    of_layer: int | None = None
    intervention: Acting | None = None
    strength: float | Literal["auto"] | None = None
    gate: GateSettings = field(default_factory=GateSettings)

    def __post_init__(self) -> None:
        """Refuse values out of range, and settings that contradict each other.

        Raises:
            SettingError: With the value and what to write.
        """
        if self.direction not in PROMPTED or self.taken_intervention not in INTERVENTIONS:
            raise SettingError(
                f"A rule has `direction` {self.direction!r} and `intervention` {self.intervention!r}, but there are "
                f"the directions {', '.join(PROMPTED)}.\nIt could not be fitted.\nChoose one of these."
            )
        if self.fitted.alone and (self.intervention is not None or self.of_layer is not None):
            raise SettingError(
                f"A rule with direction `{self.direction}` has `intervention` {self.intervention} and `of_layer` "
                f"{self.of_layer}.\nIt is a map of each state at its own layer, and takes steps of its own.\n"
                "Leave the two out."
            )
        if not (math.isfinite(self.orthogonal) and 0 <= self.orthogonal <= 1):
            raise SettingError(
                f"`orthogonal` of a rule is {self.orthogonal}.\nIt is a share, in [0, 1].\nTo take all out, write 1."
            )
        if self.per_kind < 2 or self.layers == []:
            raise SettingError(
                f"A rule has `per_kind` {self.per_kind} and `layers` {self.layers}.\n"
                "A kind needs two prompts at least, and a direction acts behind some layer.\nLeave them out."
            )
        if self.layers is not None and self.segment != "none":
            raise SettingError(
                f"A rule has `layers` {self.layers} and `segment` {self.segment}.\n"
                "Both say behind which blocks it acts.\nLeave one of the two out."
            )
        if self.intervention == "clamp" and self.strength in (None, "auto"):
            raise SettingError(
                "A rule with intervention `clamp` has no `strength`, or `auto`.\n"
                "It is the coordinate that every state gets, and none is meant by itself.\n"
                "Give it, or take `match`, which leads to that of harmless prompts."
            )
        if not 0 < self.free < 1 or not self.ridge >= 0:
            raise SettingError(
                f"A rule has `free` {self.free} and `ridge` {self.ridge}.\n"
                "The one is a share, in (0, 1), the other a penalty, at least 0.\nThe authors take 0.3 to 0.6, and 10."
            )
        taken = self.taken_strength
        if not isinstance(taken, str):
            check_strength(taken, self.taken_intervention, "strength")
            self.gate.check(taken, self.taken_intervention)

    def steered(self, depth: int) -> list[int]:
        """Return the layers that are steered behind, of a model with so many."""
        layers = list(range(depth)) if self.layers is None else sorted(set(self.layers))
        if self.segment == "none":
            return layers
        return list(segments_of(layers)[("first", "middle", "last").index(self.segment)])

    def read(self, depth: int) -> list[int]:
        """Return the layers whose directions are fitted."""
        return self.steered(depth) if self.of_layer is None else [self.of_layer]

    @property
    def fitted(self) -> Prompted:
        """How its directions are fitted."""
        return PROMPTED[self.direction]

    @property
    def taken_intervention(self) -> str:
        """The intervention, named or not."""
        return self.intervention or self.fitted.intervention

    @property
    def taken_strength(self) -> float | Literal["auto"]:
        """The strength, named or not; `auto` is found on the model."""
        full = INTERVENTIONS[self.taken_intervention].full
        return self.strength if self.strength is not None else "auto" if full is None else full

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The kinds of prompts that it is fitted on, by what they are to it."""
        return dict(self.fitted.kinds)

    def recorded(self) -> dict[str, Any]:
        """How its directions are found, for the artifact: what is set, and what the direction goes by."""
        names = ("direction", "per_kind", *self.fitted.options)
        more = {"of_layer": self.of_layer, "segment": None if self.segment == "none" else self.segment}
        return {name: getattr(self, name) for name in names} | {k: v for k, v in more.items() if v is not None}

    def check_prompts(self, counts: Mapping[str, int]) -> None:
        """Refuse too few prompts, given how many there are by what they are to it.

        Raises:
            DataError: With what to give.
        """
        missing = [name for name in self.kinds if counts.get(name, 0) < 2]
        if missing:
            raise DataError(
                f"A rule with direction `{self.direction}` has fewer than two {' and '.join(missing)} prompts.\n"
                "It is fitted on the states that each kind leaves.\n"
                f"Give lines of kind {', '.join(name for kind in missing for name in self.kinds[kind])}."
            )


def fit_rule(
    settings: RuleSettings, states: Mapping[str, States], depth: int, of: Sequence[int] | None = None
) -> dict[int, Tensor]:
    """Return the unit direction, or the map, behind each layer that is steered, in float32.

    With `match`, a direction is as long as the coordinate of the mean harmless prompt along it, and points to its side.

    Args:
        settings: Of the rule.
        states: By what the prompts are (`RuleSettings.kinds`): at their last token.
        depth: How many layers there are.
        of: Which of them the states are of; all if not set.

    Raises:
        DataError: If there are no prompts of a kind that is needed, or two kinds have the same mean state.
    """
    settings.check_prompts({name: len(found) for name, found in states.items()})
    known = list(range(depth)) if of is None else list(of)
    read = [known.index(layer) for layer in settings.read(depth)]
    kinds = {name: states[name][:, read] for name in settings.kinds}
    options = {name: getattr(settings, name) for name in settings.fitted.options}
    vectors = settings.fitted.fit(kinds, **options)
    how = INTERVENTIONS[settings.taken_intervention]
    if how.sized and not how.mapped:
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        vectors = (kinds["harmless"].double().mean(0) * unit).sum(-1, keepdim=True) * unit
    vectors = vectors.float()
    one = settings.of_layer is not None
    return {layer: vectors[0 if one else i] for i, layer in enumerate(settings.steered(depth))}
