"""ExtractionCallback: read the states of demonstrations, fit directions, write the artifact."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from sa_lightning.callbacks.pair_states import PairStatesMetric
from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.callbacks.surgery import SurgeryCallback
from sa_lightning.callbacks.unfinished import UnfinishedStates
from sa_lightning.errors import SaError, SettingError
from sa_lightning.fitting import HarmlessReplies
from sa_lightning.fitting.calibration import calibrate, check_searchable
from sa_lightning.fitting.extraction import StateReader
from sa_lightning.fitting.parts import PromptParts, check_parts
from sa_lightning.fitting.prompts import harmless_prompts
from sa_lightning.fitting.segments import SegmentName, check_segment, check_vocabulary, chosen_segment
from sa_lightning.models import PassageBatch, Position, render, template_tail
from sa_lightning.models.blocks import Site
from sa_lightning.steered import check_layers
from sa_lightning.steering import (
    Control,
    GateSettings,
    PairStates,
    PartSettings,
    SteeringArtifact,
    check_strength,
    choose_layers,
    fit_pairs,
)
from sa_lightning.steering.directions.states import SUMS_ARE_ENOUGH, refusal

Method = Literal[
    "principal",
    "principal_centred",
    "principal_concatenated",
    "mean",
    "mean_plus_principal",
    "probe",
    "whitened",
    "none",
]
HELD_OUT = 512  # pairs whose states are kept where the others are only summed


class ExtractionCallback(Callback):
    """Fit one safety direction per layer, on the original and, after surgery, on the edited weights.

    Each epoch is one pass over the demonstrations with the weights as they are then.

    Args:
        direction: `principal` is the paper's first principal direction of safe − unsafe, uncentred, layer by layer;
            `principal_centred` the one around the mean; `principal_concatenated` the uncentred one over all layers laid
            end to end; `mean` the difference of means; `mean_plus_principal` what the authors' code computes; `probe`
            the weights of a logistic regression; `whitened` Fisher's discriminant, with shrinkage; `none` fits no
            direction, where `parts` are all that acts.
        position: Where the states are read: `last`, the last token of the answer (or of the generation prompt, where
            demonstrations have no answers); `first_response`, its first token; `end_of_prompt`, the last token before
            it; `end_of_instruction`, the last token of the user's message, before what the template puts behind it.
        tokens: With `last`, average the states at the last so many tokens. The paper reads 1, the authors' code 4.
        capture_site: Where the states are read: the `residual` stream behind a block, or the output of
            its `mlp` or `attention`.
        site: Where the directions will act. The paper says the residual stream, the authors' code `mlp`.
        layers: Blocks to read and steer, from 0; all if not set. Nothing runs behind the last of them.
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
            of `harmless` are taken. If not set, the harmless ones among the prompts of gates and parts, else some
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
        parts: Name to one more way to steer, fitted on prompts of several kinds, with a gate of its own. All act
            together in `steer`.
        save: Write <output>/artifact at the end, and meanwhile what an interrupted run needs to go on.
    """

    def __init__(
        self,
        direction: Method = "principal",
        position: Position = "last",
        tokens: int = 1,
        capture_site: Site = "residual",
        site: Site = "residual",
        layers: list[int] | None = None,
        choose_layers: int | None = None,
        segment: SegmentName = "none",
        refusal_words: list[str] | None = None,
        intervention: Literal[
            "add_keep_norm", "add_keep_norm_adaptive", "add", "add_absolute", "ablate", "clamp"
        ] = "add_keep_norm",
        strength: float | dict[int, float] | Literal["auto"] = "auto",
        only_prompt: bool = False,
        unit: Literal["typical", "state"] = "typical",
        sinks: float | None = 8.0,
        kl_budget: float = 0.3,
        ordinary: str | None = None,
        keep_states: int = 4096,
        control: Control = "none",
        control_seed: int = 1,
        gate: GateSettings = GateSettings(),  # noqa: B008  # it is frozen
        parts: dict[str, PartSettings] | None = None,
        save: bool = True,
    ) -> None:
        for name, value in (("tokens", tokens), ("choose_layers", choose_layers), ("keep_states", keep_states)):
            if value is not None and value < 1:
                raise SettingError(
                    f"`steering.{name}` must be at least 1, but is {value}.\n"
                    "A direction is read from states, and acts somewhere.\nLeave it out for the default."
                )
        if tokens > 1 and position != "last":
            raise SettingError(
                f"`steering.tokens` is {tokens} with `steering.position` {position}.\n"
                "Several tokens are averaged at the end only.\nLeave one of the two out."
            )
        if strength == "auto":
            strength = 1.0 if intervention == "ablate" else strength
        else:
            check_strength(strength, intervention)
            gate.check(strength, intervention)
        check_searchable(intervention, strength)
        check_parts(parts or {}, gate, control)
        unused = {"position": position != "last", "tokens": tokens > 1, "capture_site": capture_site != "residual"}
        unused |= {"site": site != "residual", "layers": layers is not None, "segment": segment != "none"}
        unused |= {"intervention": intervention != "add_keep_norm", "strength": strength != "auto"}
        unused |= {"only_prompt": only_prompt}
        if direction == "none" and any(unused.values()):
            name = next(name for name, given in unused.items() if given)
            raise SettingError(
                f"`steering.direction` is none, and `steering.{name}` is set.\n"
                "It is about the direction of demonstrations, and there is none: `parts` have settings of their own.\n"
                "Leave it out, or choose a direction."
            )
        if direction == "none" and (not parts or gate.kind != "always" or choose_layers is not None):
            raise SettingError(
                f"`steering.direction` is none, with parts {sorted(parts or {})}, `gate.kind` {gate.kind} and "
                f"`choose_layers` {choose_layers}.\nOnly `parts` act then, each with a gate and layers of its own.\n"
                "Give `parts` and leave the others out, or choose a direction."
            )
        if layers is not None and not layers:
            raise SettingError(
                "`steering.layers` is empty.\nA direction acts behind some layer.\nLeave it out for all layers."
            )
        if isinstance(strength, dict) and choose_layers is not None:
            raise SettingError(
                "`steering.choose_layers` and a `steering.strength` per layer are both set.\n"
                "Either the layers are chosen, or they are named.\nGive one strength for all, or no number of layers."
            )
        if isinstance(strength, dict) and layers is not None:
            check_layers(strength, layers)
        check_segment(segment, refusal_words, layers, choose_layers, strength)
        if not 0 < kl_budget < math.inf or not (sinks is None or 1 <= sinks < math.inf):
            raise SettingError(
                f"`steering.kl_budget` is {kl_budget} and `steering.sinks` is {sinks}.\n"
                "The one is a divergence above 0, the other a multiple of the typical norm, 1 or more, or null.\n"
                "Leave them out for 0.3 and 8."
            )
        self.direction = direction
        self.position: Position = position
        self.tokens = tokens
        self.capture_site: Site = capture_site
        self.site: Site = site
        self.layers = None if layers is None else sorted(set(layers))
        self.choose_layers = choose_layers
        self.segment: SegmentName = segment
        self.refusal_words = refusal_words
        self.intervention = intervention
        self.strength = strength
        self.only_prompt = only_prompt
        self.unit = unit
        self.sinks = sinks
        self.kl_budget = kl_budget
        self.ordinary = ordinary
        self.keep_states = keep_states
        self.control: Control = control
        self.control_seed = control_seed
        self.gate = gate
        self.parts = parts or {}
        self.save = save
        self.artifact: SteeringArtifact | None = None
        self.states: PairStates | None = None  # of the last pass, in the first process
        self.resumed: dict[str, int] = {}
        self._metric: PairStatesMetric | None = None
        self._reader: StateReader | None = None
        self._unfinished: list[UnfinishedStates] = []  # one a pass
        self._done = torch.zeros(0, dtype=torch.bool)
        self._agree: Any = None
        self._prompts: PromptParts | None = None
        self._harmless: list[str] = []
        self._asked = False  # whether the demonstrations are questions
        #: `(prompt, reply) -> bool`, for a strength that is searched; whoever knows more of replies may set it.
        self.is_language: Callable[[str, str], bool] = lambda prompt, reply: bool(reply.strip())
        #: `(stage, done, total)`: told what is being done, and how much of it is.
        self.report: Callable[[str, int, int], None] = lambda stage, done, total: None

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        depth: int = pl_module.text_config.num_hidden_layers
        named = [*(self.layers or ()), *(self.strength if isinstance(self.strength, dict) else ())]
        wrong = sorted({layer for layer in named if not 0 <= layer < depth})
        if wrong:
            raise SettingError(
                f"`steering.layers` or `steering.strength` name {wrong}, but {pl_module.target} has {depth} layers, 0 "
                f"to {depth - 1}.\nA direction acts behind a block that exists.\n"
                "Mend the list, or leave it out for all layers."
            )
        check_vocabulary(self.segment, depth, pl_module.sharded)
        data = _data(trainer)
        data.shuffle(self.control_seed if self.control == "shuffled" else None)
        if data.count < 1:
            raise SettingError(
                f"`steering.control` is shuffled, and there is {len(data.pairs)} pair.\n"
                "Pairs exchange their members, so two are needed.\nGive more demonstrations, or another control."
            )
        count = depth if self.layers is None else len(self.layers)
        if self.choose_layers is not None and (self.choose_layers > count or data.count < 2):
            raise SettingError(
                f"`steering.choose_layers` is {self.choose_layers}, with {count} layers and {data.count} pairs.\n"
                "Layers are chosen among those read, by what they tell of pairs that were held out.\n"
                "Choose fewer, give at least two pairs, or leave it out for all layers."
            )
        if data.count > self.keep_states and self.direction not in SUMS_ARE_ENOUGH:
            raise SettingError(refusal(self.direction, data.count))
        data.read_at(self.position, self.tokens)
        self._asked = bool(data.pairs) and data.pairs[0].role == "user"
        if self.searched and pl_module.sharded:
            raise SettingError(
                "`--steering.strength auto` with `--trainer.strategy sharded`.\n"
                "It is found on replies, which a model that is split over processes does not write here.\n"
                "Give a number as `--steering.strength`."
            )
        if self.gate.kind != "always" or self.parts:
            if pl_module.sharded:
                raise SettingError(
                    "`--steering.gate` or `--steering.parts` with `--trainer.strategy sharded`.\n"
                    "Their prompts are read by each process for itself, which a split model does not allow.\n"
                    "Leave one of the two out."
                )
            self._prompts = PromptParts(self.gate, self.parts, data, depth, pl_module.target)
        if self.searched:
            known = [] if self._prompts is None else self._prompts.harmless
            self._harmless = harmless_prompts(self.ordinary, known)

    @property
    def unused_kinds(self) -> dict[str, dict[str, int]]:
        """Of each file of prompts, the kinds that no gate and no part is fitted on, with their numbers."""
        return {} if self._prompts is None else self._prompts.unused

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        text: Any = pl_module.text_config
        self.artifact = SteeringArtifact(
            directions={},
            fingerprints={},
            model=pl_module.target,
            num_layers=text.num_hidden_layers,
            d_model=text.hidden_size,
            blocks=pl_module.blocks_path,
            site=self.site,
            intervention=self.intervention,
            strength=0.0 if isinstance(self.strength, str) else self.strength,
            only_prompt=self.only_prompt,
            unit=self.unit,
            sinks=self.sinks,
            template=pl_module.template,
            template_arguments=pl_module.template_arguments,
            template_tail=template_tail(pl_module.tokenizer),
            extraction={
                "direction": self.direction,
                "position": self.position,
                "tokens": self.tokens,
                "capture_site": self.capture_site,
                **({} if self.segment == "none" else {"segment": self.segment}),
            },
        )
        pl_module.observe = self.observe if self.direction != "none" else _nothing
        self._reader = StateReader(
            pl_module.network, pl_module.blocks, self.capture_site, self.layers, whole=pl_module.sharded
        )
        _data(trainer).reader = self._reader

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        assert self.artifact is not None
        self.states = None
        data = _data(trainer)
        name = self._set(trainer)
        self.artifact.fingerprints[name] = pl_module.fingerprint()
        if self.direction == "none":
            return
        layers = range(self.artifact.num_layers) if self.layers is None else self.layers
        count = data.count
        kept = range(0, count, max(5, -(-count // HELD_OUT))) if count > self.keep_states else None
        self._metric = PairStatesMetric(
            count, len(layers), self.artifact.d_model, kept, second=self.direction != "mean"
        )
        self._agree = trainer.strategy.reduce_boolean_decision if pl_module.sharded else None
        self._done = torch.zeros(count, dtype=torch.bool)
        if self.save:
            read = {"passages": data.fingerprint(), "config": pl_module.text_config.to_json_string()}
            read |= {"site": self.capture_site, "blocks": pl_module.blocks.path, "layers": list(layers)}
            key = {"weights": self.artifact.fingerprints[name], **read}
            unfinished, self._done = UnfinishedStates.resume(trainer, key, self._metric)
            self._unfinished.append(unfinished)
            self.resumed[name] = int(self._done.sum())

    def observe(self, batch: PassageBatch) -> None:
        """Read the pairs of a batch that are this process's to read and not read yet."""
        assert self._metric is not None
        assert self._reader is not None
        wanted = batch.counted & ~self._done.to(batch.groups.device)[batch.groups]
        nothing = not bool(wanted.any())
        if self._agree is not None:  # the processes of a sharded model run all forwards together
            nothing = self._agree(nothing, all=True)
        if nothing:
            return
        self._metric.update(self._reader(batch), batch.groups, wanted)
        self.report("reading pairs", int(self._metric.seen.sum()), len(self._metric.seen))
        if self._unfinished and self._unfinished[-1].due():
            self._unfinished[-1].save(self._metric.tensors())

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        assert self.artifact is not None
        name = self._set(trainer)
        self.report(f"fitting on {name} weights", 0, 0)
        if self.direction == "none":
            assert self._prompts is not None
            self.artifact.directions[name] = {}
            self._prompts.fit(self.artifact, name, pl_module)
            self._calibrate(trainer, pl_module, name)
            return
        assert self._metric is not None
        several = trainer.world_size > 1
        if self._unfinished:
            # Another pass may be interrupted, other processes may fail, and the fit itself may take long.
            another = trainer.max_epochs != trainer.current_epoch + 1
            if several or another or self._unfinished[-1].due():
                self._unfinished[-1].save(self._metric.tensors())
        states = self._metric.collected(trainer.strategy.root_device if several else None)
        self._metric.reset()
        fitted: Any = trainer.strategy.broadcast(None if states is None else self._fit(states, pl_module))
        if isinstance(fitted, SaError):
            raise fitted
        layers, directions, statistics, written = fitted
        if written is not None:
            self.artifact.extraction.setdefault("vocabulary", {})[name] = written
        self.artifact.directions[name] = dict(zip(layers, directions, strict=True))
        self.artifact.statistics[name] = statistics
        self.states = states
        if self._prompts is not None:
            self._prompts.fit(self.artifact, name, pl_module)
        self._calibrate(trainer, pl_module, name)

    @property
    def searched(self) -> dict[str, float]:
        """The parts, "" for the directions themselves, whose strength is found on the model, and which way."""
        found = {name: 1.0 for name, part in self.parts.items() if part.taken_strength == "auto"}
        if self.strength == "auto" and self.direction != "none":
            found[""] = -1.0 if self._asked else 1.0
        return found

    def _calibrate(self, trainer: Trainer, pl_module: Any, name: str) -> None:
        """Find typical norms, strengths and doses on the weights as they are now."""
        assert self.artifact is not None
        pairs = [] if self.direction == "none" else _data(trainer).passages()
        sequences = [member.ids for pair in pairs for member in pair]
        self.report("looking for a strength" if self.searched else "measuring norms", 0, 0)
        if not sequences and self._prompts is not None:
            sequences = self._prompts.sequences(pl_module)
        asked = [render(pl_module.tokenizer, [{"role": "user", "content": prompt}]) for prompt in self._harmless]
        calibrate(
            self.artifact,
            name,
            pl_module.network,
            pl_module.blocks,
            sequences,
            searched=self.searched,
            budget=self.kl_budget,
            replies=lambda: HarmlessReplies(
                pl_module.network, pl_module.blocks, pl_module.tokenizer, asked, self.is_language
            ),
            whole=pl_module.sharded,
            settled=[known for known in self.artifact.directions if known != name],
        )

    def _fit(self, states: PairStates, pl_module: Any) -> tuple[list[int], list[Tensor], dict[str, Any], Any] | SaError:
        """Fit in one process; an error is handed to all, so that none waits for ever."""
        try:
            directions, statistics = fit_pairs(states, self.direction, self.layers)
            layers: Any = statistics["layers"]
            chosen, written = layers, None
            if self.choose_layers is not None:
                chosen = choose_layers(layers, statistics["auroc"], statistics["gap"], self.choose_layers)
            elif self.segment != "none":
                chosen, written = chosen_segment(self.segment, directions, pl_module, self.refusal_words)
        except SaError as error:
            return error
        return chosen, [directions[layers.index(layer)] for layer in chosen], statistics, written

    @staticmethod
    def _set(trainer: Trainer) -> str:
        """Which weights the model has now."""
        surgery = SurgeryCallback.of(trainer)
        return "edited" if surgery is not None and surgery.applied else "original"

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.artifact is not None
        data = _data(trainer)
        surgery = SurgeryCallback.of(trainer)
        provenance = ProvenanceCallback.of(trainer)
        self.artifact.demonstrations = data.provenance
        self.artifact.surgery = (
            surgery.record() if surgery is not None and "edited" in self.artifact.directions else None
        )
        self.artifact.command, self.artifact.versions = provenance.command, provenance.versions
        if self.control == "random":
            self.artifact = self.artifact.randomised(self.control_seed)
        elif self.control == "shuffled":
            self.artifact.control = {"kind": self.control, "seed": self.control_seed}
        if self.save and trainer.is_global_zero:
            self.artifact.save_pretrained(Path(trainer.default_root_dir) / "artifact", config=provenance.config)
        trainer.strategy.barrier()
        if trainer.local_rank == 0:  # on every node, should they not share a disk
            for unfinished in self._unfinished:
                unfinished.remove()

    @override
    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        pl_module.observe = _data(trainer).reader = None

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        useless = isinstance(exception, SaError)  # a mistake to be mended first
        if useless and self._unfinished and self._unfinished[0].is_young():
            for unfinished in self._unfinished:
                unfinished.remove()
        metric = self._metric
        if self._unfinished and metric is not None and bool(metric.seen.any()) and metric.is_whole() and not useless:
            self._unfinished[-1].save(metric.tensors())


def _nothing(batch: PassageBatch) -> None:
    """Read nothing of a batch."""


def _data(trainer: Trainer) -> Any:
    """The run's DemonstrationDataModule."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it when a run starts
