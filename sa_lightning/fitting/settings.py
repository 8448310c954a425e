"""The settings of a fit: what is read of demonstrations, what is fitted on it, and how that is to act."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sa_lightning.errors import SettingError
from sa_lightning.fitting.calibration import check_searchable
from sa_lightning.fitting.rules import check_rules
from sa_lightning.fitting.segments import SegmentName, check_segment
from sa_lightning.models import Position
from sa_lightning.models.blocks import Site
from sa_lightning.ranges import check_fields
from sa_lightning.steered import check_layers
from sa_lightning.steering import (
    DIRECTIONS,
    INTERVENTIONS,
    PAIRS,
    Control,
    GateSettings,
    RuleSettings,
    check_strength,
)

if TYPE_CHECKING:
    Method = str
    Acting = str
else:
    Method = Literal[tuple(DIRECTIONS)]
    Acting = Literal[tuple(name for name, known in INTERVENTIONS.items() if not known.sized)]


@dataclass
class SteeringSettings:
    """How steering is fitted, and how it acts.

    Args:
        direction: `principal` is the paper's first principal direction of safe − unsafe, uncentred, layer by layer;
            `principal_centred` the one around the mean; `principal_concatenated` the uncentred one over all layers laid
            end to end; `mean` the difference of means; `mean_plus_principal` what the authors' code computes; `probe`
            the weights of a logistic regression; `whitened` Fisher's discriminant, with shrinkage. If not set,
            `principal`; where `rules` are given, no direction is fitted on pairs then.
        position: Where the states are read: `last`, the last token of the answer (or of the generation prompt, where
            demonstrations have no answers); `first_response`, its first token; `end_of_prompt`, the last token before
            it; `end_of_instruction`, the last token of the user's message, before what the template puts behind it.
        tokens: With `last`, average the states at the last so many tokens. The paper reads 1, the authors' code 4.
        capture_site: Where the states are read: the `residual` stream behind a block, or the output of
            its `mlp` or `attention`.
        site: Where the directions will act. The paper says the residual stream, the authors' code `mlp`.
        layers: Blocks to read and steer, from 0; all if not set. Nothing runs behind the last of them. `edit_area`
            takes those in which a knowledge-edited target differs from `surgery.base`, and their neighbours (Safety
            Arithmetic, Eq. 11-12).
        choose_layers: Steer only so many of them, those that tell safe from unsafe best on held-out pairs (AUROC; among
            equals, by the gap between the sides).
        segment: Steer only one of three spans of like length, `first`, `middle` or `last`; with `vocabulary`, the one
            whose directions, projected on the output head, write most words of refusal (SCANS, arXiv 2408.11491,
            section 3.2). What every span writes is then in the artifact and its card.
        refusal_words: With `segment` vocabulary, the words, instead of the English ones of the package; with a star
            behind it, as in `refus*`, the beginning of a word.
        intervention: `add_keep_norm` adds and rescales to the old norm (paper, Eq. 9-10); `add_keep_norm_adaptive`
            takes the longer step of the authors' code at unsafe states; `add` does not rescale; `add_absolute` takes a
            step of the same length at every token; `ablate` removes what lies along the direction; `clamp` sets it.
        strength: `auto` is the largest step whose KL divergence on harmless prompts is within `kl_budget` and whose
            replies are language, found on the loaded model; of directions from harmful to harmless questions it leads
            towards refusal, and is negative. Or a number for all layers, or one per layer, as
            `{12: 0.1, 13: 0.2}` (in quotes, and with a blank behind each colon). Of the `add` interventions a
            fraction of a norm (`unit`), of `add_absolute` a length, of `ablate` the fraction removed, of `clamp`
            the coordinate that is set. The paper's α = 0.12 has no stated unit; in the authors' code it comes to 0.012.
            What a fraction a layer comes to over all layers is printed as the dose.
        only_prompt: Steer the prompt and no token of the reply, which is the model's own from what it then makes of the
            prompt: a larger step is borne than where replies are steered, too. With a gate, the last token of the
            prompt alone, unless it has `whole_prompt`.
        unit: What a strength of the `add` interventions is a fraction of: the `typical` norm of a state at the layer,
            the median over the fit's own text; or the norm of each `state`, as both published readings have it.
        sinks: Leave states alone that are longer than so many typical norms, whatever the site and intervention:
            attention sinks, such as the first token of most models, on which all others lean. `null` moves them, too.
        kl_budget: With `strength` auto: most KL divergence between unsteered and steered replies, in nats a token, a
            mean over the model's own replies to harmless prompts. Real replies were seen to fall apart at 0.5.
        ordinary: With `strength` auto: file of harmless prompts, JSON Lines with `prompt`; where it has a `kind`, those
            of `harmless` are taken. If not set, the harmless ones among the prompts of gates and rules, else some
            ordinary English ones of this package.
        keep_states: Keep the states of up to so many pairs. Of more, 512 at most are kept and held out for the AUROC,
            and of the others only sums, which `mean`, `principal` and `principal_centred` are content with; the latter
            two then need layers · d_model² · 8 bytes of host memory (4.3 GB for a 7B model, all layers).
        control: What a result is compared with. `random`: unit directions drawn at random take the place of the fitted
            ones, behind the same layers, as `data.random_directions` of `sa validate` draws them. `shuffled`:
            directions are fitted on pairs whose sides do not differ, for half of them have changed sides (and partners
            are exchanged, as a change of sides alone leaves `principal` its axis). A `strength` of 0 is one, too.
        control_seed: Of the draw: another seed is another control.
        gate: Which prompts are steered, and which way.
        rules: Name to one more way to steer, fitted on prompts of several kinds, with a gate of its own. All act
            together in `steer`.
    """

    direction: Method | None = None
    position: Position = "last"
    tokens: int = 1
    capture_site: Site = "residual"
    site: Site = "residual"
    layers: list[int] | Literal["edit_area"] | None = None
    choose_layers: int | None = None
    segment: SegmentName = "none"
    refusal_words: list[str] | None = None
    intervention: Acting = "add_keep_norm"
    strength: float | dict[int, float] | Literal["auto"] = "auto"
    only_prompt: bool = False
    unit: Literal["typical", "state"] = "typical"
    sinks: float | None = 8.0
    kl_budget: float = 0.3
    ordinary: str | None = None
    keep_states: int = 4096
    control: Control = "none"
    control_seed: int = 1
    gate: GateSettings = field(default_factory=GateSettings)
    rules: dict[str, RuleSettings] | None = None

    #: Settings of the directions that are fitted on pairs alone.
    PAIRED = (
        "position",
        "tokens",
        "capture_site",
        "site",
        "layers",
        "segment",
        "intervention",
        "strength",
        "only_prompt",
    )

    def __post_init__(self) -> None:
        """Refuse values out of range, and settings that contradict each other.

        Raises:
            SettingError: With the values and what to change.
        """
        self.rules = dict(self.rules or {})
        check_fields(self, "steering")
        if self.tokens > 1 and self.position != "last":
            raise SettingError(
                f"`steering.tokens` is {self.tokens} with `steering.position` {self.position}.\n"
                "Several tokens are averaged at the end only.\nLeave one of the two out."
            )
        if not self.fits_pairs:
            self._check_rules_alone()
        if self.strength == "auto":
            full = INTERVENTIONS[self.intervention].full
            self.strength = "auto" if full is None else full
        if not isinstance(self.strength, str):
            check_strength(self.strength, self.intervention)
            self.gate.check(self.strength, self.intervention)
        check_searchable(self.intervention, self.strength)
        check_rules(self.rules, self.gate, self.control)
        self._check_layers()
        if self.strength == {}:
            raise SettingError(
                "`steering.strength` is an empty mapping.\nNo layer would be steered.\n"
                "Leave it out, or write a number, or one per layer: {12: 0.1, 13: 0.2}."
            )

    @property
    def fits_pairs(self) -> bool:
        """Whether a rule is fitted on pairs."""
        return self.direction is not None or not self.rules

    @property
    def method(self) -> str:
        """The direction of pairs, named or not."""
        return self.direction or "principal"

    @property
    def named_layers(self) -> list[int] | None:
        """The layers that are read, None for all; `within` has to have found an edit area."""
        assert self.layers != "edit_area", "`within` puts its layers in place of the name"
        return self.layers

    def within(self, area: Callable[[], list[int]]) -> "SteeringSettings":
        """The same, with the edit area of the target in place of its name; as they are where it is not named.

        Args:
            area: Finds its layers, as `Surgery.edit_area` does.
        """
        return dataclasses.replace(self, layers=area()) if self.layers == "edit_area" else self

    def searched(self, asked: bool) -> dict[str, float]:
        """The rules whose strength is found on the model, by name, and which way.

        Args:
            asked: Whether demonstrations are questions: directions then lead away from refusal.
        """
        found = {name: 1.0 for name, rule in (self.rules or {}).items() if rule.taken_strength == "auto"}
        if self.strength == "auto" and self.fits_pairs:
            found[PAIRS] = -1.0 if asked else 1.0
        return found

    def _check_rules_alone(self) -> None:
        """Refuse settings of directions of pairs where none is fitted."""
        defaults = {name: item.default for name, item in self.__dataclass_fields__.items()}
        given = [name for name in self.PAIRED if getattr(self, name) != defaults[name]]
        given += ["gate"] if self.gate.kind != "always" else []
        given += ["choose_layers"] if self.choose_layers is not None else []
        if given:
            raise SettingError(
                f"`steering.{given[0]}` is set, beside the rules {', '.join(self.rules or {})} and no "
                "`steering.direction`.\n"
                "It is about a direction that is fitted on pairs; `rules` have settings of their own.\n"
                "Leave it out, or name a `steering.direction`."
            )

    def _check_layers(self) -> None:
        """Refuse two ways to say which layers are steered."""
        if self.layers is not None and not self.layers:
            raise SettingError(
                "`steering.layers` is empty.\nA direction acts behind some layer.\nLeave it out for all layers."
            )
        if isinstance(self.strength, dict) and self.choose_layers is not None:
            raise SettingError(
                "`steering.choose_layers` and a `steering.strength` per layer are both set.\n"
                "Either the layers are chosen, or they are named.\nGive one strength for all, or no number of layers."
            )
        if isinstance(self.layers, list):
            self.layers = sorted(set(self.layers))
        if isinstance(self.strength, dict) and isinstance(self.layers, list):
            check_layers(self.strength, self.layers)
        check_segment(self.segment, self.refusal_words, self.layers, self.choose_layers, self.strength)
