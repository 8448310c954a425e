"""An artifact from a model and demonstrations: rules fitted on one set of weights after another."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.files import Json
from sa_lightning.fitting.calibration import calibrate
from sa_lightning.fitting.demonstrations import Demonstrations
from sa_lightning.fitting.extraction import extract
from sa_lightning.fitting.prompts import harmless_prompts
from sa_lightning.fitting.rules import PromptRules
from sa_lightning.fitting.segments import check_vocabulary, chosen_segment
from sa_lightning.fitting.settings import SteeringSettings
from sa_lightning.fitting.strength import HarmlessReplies
from sa_lightning.models import Target, quantization_of, render, template_arguments, template_tail
from sa_lightning.rows import Prompt, conversation
from sa_lightning.steering import (
    PAIRS,
    PairStates,
    Rule,
    SteeringArtifact,
    choose_layers,
    fit_pairs,
    weights_fingerprint,
)
from sa_lightning.steering.directions.states import SUMS_ARE_ENOUGH, refusal


@dataclass
class PairsFit:
    """What was fitted on pairs, on one set of weights.

    Attributes:
        layers: That are steered.
        directions: One each, float32.
        statistics: Of all layers that were read (`fit_pairs`).
        written: Of a segment that was chosen by its words: what every segment writes.
    """

    layers: list[int]
    directions: list[Tensor]
    statistics: dict[str, list[Any]]
    written: Json | None = None


def _no_area() -> list[int]:
    raise SettingError(
        "`steering.layers` is `edit_area`, and it is not known what the target was edited from.\n"
        "The area is where the target differs from its base.\nName the layers."
    )


@dataclass
class ArtifactFit:
    """A fit: `check`, `begin`, then `add` for each set of weights, and `finish`.

    Args:
        settings: What is fitted, and how.
        data: The demonstrations.

    Attributes:
        is_language: `(prompt, reply) -> bool`, for a strength that is searched.
        report: `(stage, done, total)`: told what is being done, and how much of it is.
        area: Finds the layers of the edit area, where the settings ask for it.
        prompts: Of gates and rules, once it is checked.

    Example:
        fit = ArtifactFit(SteeringSettings(direction="mean"), Demonstrations("pairs.jsonl"))
        fit.check("MODEL", depth=30)
        fit.begin(target)
        fit.add("original", weights_fingerprint(target.network), fit.pairs(states, target))
    """

    settings: SteeringSettings
    data: Demonstrations = field(default_factory=lambda: Demonstrations(""))
    is_language: Callable[[str, str], bool] = lambda prompt, reply: bool(reply.strip())
    report: Callable[[str, int, int], None] = lambda stage, done, total: None
    area: Callable[[], list[int]] = _no_area
    prompts: PromptRules | None = None
    harmless: list[Prompt] = field(default_factory=list)
    _artifact: SteeringArtifact | None = None
    _target: Target | None = None

    @property
    def artifact(self) -> SteeringArtifact:
        """What has been fitted so far."""
        assert self._artifact is not None, "`begin` has made it"
        return self._artifact

    def check(self, target: str, depth: int, sharded: bool = False, tokenizer: Any = None) -> None:
        """Read demonstrations and prompts, and refuse what does not fit, before any weight is read.

        Args:
            target: Name of the model.
            depth: How many layers it has.
            sharded: Whether its weights are split over processes.
            tokenizer: Its own, by whose chat template demonstrations have to be written.

        Raises:
            SettingError: If settings, demonstrations and model do not go together.
            DataError: If prompts are missing, or demonstrations have turns that the template does not write.
        """
        chosen = self.settings = self.settings.within(self.area)
        named = [*(chosen.named_layers or ()), *(chosen.strength if isinstance(chosen.strength, dict) else ())]
        wrong = sorted({layer for layer in named if not 0 <= layer < depth})
        if wrong:
            raise SettingError(
                f"`steering.layers` or `steering.strength` name {wrong}, but {target} has {depth} layers, 0 to "
                f"{depth - 1}.\nA direction acts behind a block that exists.\n"
                "Mend the list, or leave it out for all layers."
            )
        check_vocabulary(chosen.segment, depth, sharded)
        data = self.data
        data.read()
        if tokenizer is not None:
            data.check(tokenizer)
        data.read_at(chosen.position, chosen.tokens, chosen.control_seed if chosen.control == "shuffled" else None)
        count = depth if chosen.named_layers is None else len(chosen.named_layers)
        if chosen.choose_layers is not None and (chosen.choose_layers > count or data.count < 2):
            raise SettingError(
                f"`steering.choose_layers` is {chosen.choose_layers}, with {count} layers and {data.count} pairs.\n"
                "Layers are chosen among those read, by what they tell of pairs that were held out.\n"
                "Choose fewer, give at least two pairs, or leave it out for all layers."
            )
        if data.count > chosen.keep_states and chosen.method not in SUMS_ARE_ENOUGH:
            raise SettingError(refusal(chosen.method, data.count))
        searched = chosen.searched(data.asked)
        if searched and sharded:
            raise SettingError(
                "`--steering.strength auto` with `--trainer.strategy sharded`.\n"
                "It is found on replies, which a model that is split over processes does not write here.\n"
                "Give a number as `--steering.strength`."
            )
        if chosen.gate.kind != "always" or chosen.rules:
            if sharded:
                raise SettingError(
                    "`--steering.gate` or `--steering.rules` with `--trainer.strategy sharded`.\n"
                    "Their prompts are read by each process for itself, which a split model does not allow.\n"
                    "Leave one of the two out."
                )
            self.prompts = PromptRules(chosen.gate, chosen.rules or {}, data, depth, target)
        if searched:
            self.harmless = harmless_prompts(chosen.ordinary, [] if self.prompts is None else self.prompts.harmless)

    def begin(self, target: Target) -> None:
        """Make an artifact without directions, for a model that is loaded now."""
        chosen, self._target = self.settings, target
        text = target.text_config
        how = {"direction": chosen.method, "position": chosen.position, "tokens": chosen.tokens}
        how |= {"capture_site": chosen.capture_site} | ({} if chosen.segment == "none" else {"segment": chosen.segment})
        pairs = Rule(
            directions={},
            site=chosen.site,
            intervention=chosen.intervention,
            strength=0.0 if isinstance(chosen.strength, str) else chosen.strength,
            unit=chosen.unit,
            sinks=chosen.sinks,
            only_prompt=chosen.only_prompt,
            extraction=how,
        )
        self._artifact = SteeringArtifact(
            rules={PAIRS: pairs} if chosen.fits_pairs else {},
            fingerprints={},
            model=target.name,
            num_layers=text.num_hidden_layers,
            d_model=text.hidden_size,
            blocks=target.blocks_path,
            quantization=quantization_of(target.network),
            template=target.template,
            template_arguments=template_arguments(target.tokenizer),
            system_prompt=getattr(target.tokenizer, "system_prompt", None),
            template_tail=template_tail(target.tokenizer),
        )

    def pairs(self, states: PairStates) -> PairsFit:
        """Fit directions on the states of pairs, and choose the layers that are steered.

        Raises:
            DataError, SettingError: As `fit_pairs` and `chosen_segment`.
        """
        chosen, target = self.settings, self._target
        directions, statistics = fit_pairs(states, chosen.method, chosen.named_layers)
        known: Any = statistics["layers"]
        layers, written = known, None
        if chosen.choose_layers is not None:
            layers = choose_layers(known, statistics["auroc"], statistics["gap"], chosen.choose_layers)
        elif chosen.segment != "none":
            layers, written = chosen_segment(chosen.segment, directions, target, chosen.refusal_words)
        return PairsFit(layers, [directions[known.index(layer)] for layer in layers], statistics, written)

    def add(self, name: str, fingerprint: str, pairs: PairsFit | None) -> None:
        """Fit what is left on the weights as they are now, the same in every process, and put all into the artifact.

        Args:
            name: Of the set of weights: `original` or `edited`.
            fingerprint: Of these weights.
            pairs: What was fitted on pairs, where a rule is.
        """
        artifact, chosen, target = self.artifact, self.settings, self._target
        assert target is not None
        settled = list(artifact.fingerprints)
        artifact.fingerprints[name] = fingerprint
        if pairs is not None:
            rule = artifact.rules[PAIRS]
            rule.directions[name] = dict(zip(pairs.layers, pairs.directions, strict=True))
            rule.statistics[name] = pairs.statistics
            if pairs.written is not None:
                rule.extraction.setdefault("vocabulary", {})[name] = pairs.written
        if self.prompts is not None:
            self.prompts.fit(artifact.rules, name, target, chosen.unit, chosen.sinks)
        searched = chosen.searched(self.data.asked)
        self.report("looking for a strength" if searched else "measuring norms", 0, 0)
        sequences: list[list[int]] = []
        if chosen.fits_pairs:
            passages = self.data.passages(target.tokenizer, target.max_length)
            sequences = [member.ids for pair in passages for member in pair]
        elif self.prompts is not None:
            sequences = self.prompts.sequences(target)
        asked = [render(target.tokenizer, conversation(prompt)) for prompt in self.harmless]
        calibrate(
            artifact.rules,
            name,
            target.network,
            target.blocks,
            sequences,
            searched=searched,
            budget=chosen.kl_budget,
            replies=lambda: HarmlessReplies(target.network, target.blocks, target.tokenizer, asked, self.is_language),
            whole=target.sharded,
            settled=settled,
        )

    def finish(
        self, surgery: Json | None = None, command: str | None = None, versions: dict[str, str] | None = None
    ) -> SteeringArtifact:
        """Return the artifact, with where it comes from; of a control, what stands in place of what was fitted.

        Args:
            surgery: What `Surgery.record` says, where there are edited weights.
            command: What was typed.
            versions: Of the packages that made it.
        """
        artifact, chosen = self.artifact, self.settings
        artifact.demonstrations = self.data.provenance
        artifact.surgery = surgery if "edited" in artifact.fingerprints else None
        artifact.command, artifact.versions = command, versions or {}
        if chosen.control == "random":
            artifact = artifact.randomised(chosen.control_seed)
        elif chosen.control == "shuffled":
            artifact.control = {"kind": chosen.control, "seed": chosen.control_seed}
        self._artifact = artifact
        return artifact


def fit_artifact(
    target: Target,
    settings: SteeringSettings,
    demonstrations: Demonstrations | str,
    *,
    batch_tokens: int | None = None,
    batch_size: int | None = None,
    share_prefixes: bool | None = None,
    is_language: Callable[[str, str], bool] | None = None,
    report: Callable[[str, int, int], None] | None = None,
    area: Callable[[], list[int]] = _no_area,
) -> SteeringArtifact:
    """Fit an artifact on the weights that a model has now, in this process.

    Args:
        target: A loaded model (`LoadedModel`, `CausalLMModule`), unsteered.
        settings: What is fitted, and how it acts.
        demonstrations: Pairs, or their file.
        batch_tokens: Most tokens a batch may have, padding included.
        batch_size: Most pairs a batch may have.
        share_prefixes: Whether what both sides of a pair begin with runs once; where it pays, if not set.
        is_language: `(prompt, reply) -> bool`, for a strength that is searched; not blank, if not set.
        report: Told `(stage, done, total)`.
        area: Finds the layers of the edit area, where the settings ask for it.

    Returns:
        With one set, `original`, of the weights as they are.

    Raises:
        SettingError: If settings, demonstrations and model do not go together.
        DataError: If demonstrations or prompts cannot be used, or no direction leads from one side to the other.

    Example:
        >>> artifact = fit_artifact(LoadedModel(model, tokenizer), SteeringSettings(), "pairs.jsonl")  # doctest: +SKIP
    """
    data = Demonstrations(demonstrations) if isinstance(demonstrations, str) else demonstrations
    fit = ArtifactFit(settings, data, area=area)
    fit.is_language, fit.report = is_language or fit.is_language, report or fit.report
    fit.check(target.name, target.text_config.num_hidden_layers, target.sharded, target.tokenizer)
    fit.begin(target)
    found = None
    if settings.fits_pairs:
        states = extract(
            target.network,
            data.passages(target.tokenizer, target.max_length),
            site=settings.capture_site,
            layers=fit.settings.named_layers,
            batch_tokens=batch_tokens,
            batch_size=batch_size,
            share_prefixes=share_prefixes,
            blocks=target.blocks_path,
        )
        found = fit.pairs(states)
    fit.add("original", weights_fingerprint(target.network), found)
    return fit.finish()
