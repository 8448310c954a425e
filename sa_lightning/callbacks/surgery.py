"""SurgeryCallback: remove the harm direction from the loaded model's parameters, and put it back."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.errors import CheckpointMismatchError, SettingError
from sa_lightning.fitting.examples import read_examples, spend_budget
from sa_lightning.models import base_of, is_adapter
from sa_lightning.surgery import (
    Checkpoint,
    EditInMemory,
    EditSettings,
    ModelWeights,
    NamedTensors,
    Sources,
    check_sources,
    open_checkpoint,
    plan_from,
    saliency_scores,
    write_edit,
)

ProgressBars = Callable[[], AbstractContextManager[Callable[[str, int, int], None] | None]]


def _lasting(source: str) -> str:
    """Write a local directory so that it is found from elsewhere, too."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


class SurgeryCallback(Callback):
    """Edit the target's weights while a run asks for edited weights: subtract a trimmed harm vector, as a rule.

    During a fit, the first pass over the demonstrations sees the original and the second the edited
    weights. During validation and prediction, each arm says which it wants. The weights are
    given back bit for bit.

    `progress` may be set to a context manager of bars, as `sa` does: a selection over a large model
    takes minutes.

    Args:
        harm: Harmful fine-tune of the base: directory or Hub id of a checkpoint, or directory of a
            PEFT adapter; or several. Without one (or `aligned`, `unaligned`, `direction`) there is no surgery.
        base: The checkpoint that the harm model was fine-tuned from; the target itself if not set (of an
            adapter, its base).
        save_edited: Write <output>/edited, a checkpoint of the edited target.
        weights: A factor for each of several harm models.
        benign: A harmless fine-tune of the base, whose direction is left out of the harm vector.
        stand_in: A harmless fine-tune of the base, whose task vector takes the place of the harm vector, as long as it
            is before anything is selected, as a control.
        aligned: Add aligned − unaligned, or aligned − base if there is no unaligned model.
        unaligned: The aligned model (or the base) after harmful fine-tuning.
        direction: A refusal direction to project out of the weights: an artifact, or a safetensors file.
        direction_layer: Whose direction, from 0.
        prompts: For `select: snip` and `fisher`, and for `kl_budget`: JSONL file of prompts and responses, or
            demonstrations, whose unsafe answers are taken.
        kl_prompts: For `kl_budget`, which looks at `prompts`, too: JSONL file with rows of prompt and response (or
            `answer`); where rows have a `kind`, those that are `harmless`.
        scores: For `select: snip` and `fisher`: directory of scores, read if it exists.
    """

    def __init__(
        self,
        harm: str | list[str] | None = None,
        base: str | None = None,
        save_edited: bool = True,
        weights: list[float] | None = None,
        benign: str | None = None,
        stand_in: str | None = None,
        aligned: str | None = None,
        unaligned: str | None = None,
        direction: str | None = None,
        direction_layer: int | None = None,
        prompts: str | None = None,
        kl_prompts: str | None = None,
        scores: str | None = None,
        **settings: Any,
    ) -> None:
        self.harm = harm
        self.base = base
        self.save_edited = save_edited
        self.more: dict[str, Any] = {
            "weights": weights,
            "benign": benign,
            "stand_in": stand_in,
            "aligned": aligned,
            "unaligned": unaligned,
            "direction": direction,
            "direction_layer": direction_layer,
            "prompts": prompts,
            "kl_prompts": kl_prompts,
            "scores": scores,
        }
        self.settings = EditSettings(**settings)
        self.progress: ProgressBars = lambda: nullcontext(None)
        self.inputs: dict[str, dict[str, str]] | None = None
        self.sources: Sources | None = None
        # What several surgeries on one model may share: scores of weights, and opened checkpoints.
        self.scores: dict[Any, NamedTensors] = {}
        self.opened: dict[str, Checkpoint] = {}
        self._edit: EditInMemory | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is any surgery to do."""
        return bool(self.harm or self.more["aligned"] or self.more["unaligned"] or self.more["direction"])

    @classmethod
    def of(cls, trainer: Trainer) -> "SurgeryCallback | None":
        """Return the run's surgery, if it has one to do."""
        found = [callback for callback in trainer.callbacks if isinstance(callback, cls)]  # type: ignore[attr-defined]
        return found[0] if found and found[0].wanted else None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "SurgeryCallback":
        """Rebuild the surgery that an artifact was fitted with."""
        surgery = cls(harm=record["harm"], base=record["base"], save_edited=False, **record.get("sources", {}))
        surgery.settings = EditSettings.from_record(record["settings"])
        surgery.inputs = record.get("inputs")
        return surgery

    def record(self) -> dict[str, Any]:
        """Return inputs, settings and what came of them, for the artifact."""
        report = self._edit.report() if self._edit is not None else {}
        settings = self.settings
        if self._edit is not None:  # what was not set is now known
            settings = dataclasses.replace(self._edit.plan.settings, dtype=self.settings.dtype)
        kept = (
            "inputs",
            "control",
            "search",
            "threshold",
            "n",
            "k",
            "density_achieved",
            "retained_energy",
            "relative_norm",
            "per_layer",
        )
        return {
            "harm": self.harm,
            "base": self.base,
            "sources": {name: value for name, value in self.more.items() if value is not None},
            "settings": settings.recorded(),
            **{key: report[key] for key in kept if key in report},
        }

    @property
    def applied(self) -> bool:
        """Whether the model has the edited weights now."""
        return self._edit is not None and self._edit.active

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the checkpoints, and refuse what does not fit, before any weight is read."""
        if not self.wanted:
            given = [name for name, value in self.more.items() if value is not None]
            given += ["operator"] if self.settings.operator is not None else []
            if given:
                raise SettingError(
                    f"`surgery.{given[0]}` is set, but there is no surgery: neither `surgery.harm` nor "
                    "`surgery.aligned`, `surgery.unaligned` or `surgery.direction` is.\n"
                    "It would be ignored.\nGive one of these, or leave it out; `sa edit` can do without."
                )
            return
        self.base = _lasting(self.base or base_of(str(pl_module.target)))
        harms = [self.harm] if isinstance(self.harm, str) else self.harm or []
        harms = [_lasting(harm) for harm in harms]
        self.harm = harms[0] if len(harms) == 1 else harms or None
        self.more = {name: _lasting(value) if isinstance(value, str) else value for name, value in self.more.items()}
        self.sources = Sources(self.base, tuple(harms), str(pl_module.target), **self.more)
        check_sources(self.sources, self.settings, self._opener(pl_module))

    def _opener(self, pl_module: Any) -> Callable[[str], Checkpoint]:
        """Open checkpoints, each once; of the target, the revision that was asked for."""
        target, revision = str(pl_module.target), pl_module.revision
        if is_adapter(target):
            revision = None

        def opened(source: str) -> Checkpoint:
            if source not in self.opened:
                self.opened[source] = open_checkpoint(source, revision=revision if source == target else None)
            return self.opened[source]

        return opened

    def toggle(self, pl_module: Any, edited: bool) -> None:
        """Bring the model into the state asked for."""
        if edited and self._edit is None:
            assert self.sources is not None, "setup has made them"
            with self.progress() as report:

                def score(kind: str, prompts: str, names: Sequence[str]) -> NamedTensors:
                    key = (kind, prompts, tuple(names))
                    if key not in self.scores:
                        examples = read_examples(prompts, pl_module.tokenizer)
                        self.scores[key] = saliency_scores(pl_module.network, examples, names, kind, report)
                    return self.scores[key]

                opener = self._opener(pl_module)
                plan = plan_from(self.sources, self.settings, score=score, progress=report, opener=opener)
                for warning in plan.warnings:
                    rank_zero_warn(warning)
                if pl_module.dtype_name != "auto":
                    # The edit on disk is that of the weights as they were loaded.
                    plan.settings = dataclasses.replace(plan.settings, dtype=pl_module.dtype_name)
                    plan.rounds_first = True
                spend_budget(plan, self.sources, pl_module.network, pl_module.tokenizer, report)
                edit = EditInMemory(plan, ModelWeights(pl_module.network), report)
                edit.apply()
            self._edit = edit
        if self._edit is not None and edited != self._edit.active:
            (self._edit.apply if edited else self._edit.undo)()
        if self._edit is not None:
            self._check_inputs(self._edit.report()["inputs"])

    def _check_inputs(self, inputs: dict[str, dict[str, str]]) -> None:
        """Refuse checkpoints that are not those the artifact was fitted with."""
        for role, known in (self.inputs or {}).items():
            if inputs[role]["fingerprint"] != known["fingerprint"]:
                raise CheckpointMismatchError(
                    f"The {role} checkpoint {inputs[role]['source']} is not the one of the fit: its fingerprint is "
                    f"{inputs[role]['fingerprint'][:12]}, the artifact's {known['fingerprint'][:12]}.\n"
                    "Redoing the edit with other weights would measure another model.\n"
                    "Put the checkpoint back, or fit again with `sa fit`."
                )

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.toggle(pl_module, edited=self.wanted and trainer.current_epoch > 0)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.toggle(pl_module, edited=False)
        if self._edit is not None and self.save_edited and trainer.is_global_zero:
            command = ProvenanceCallback.of(trainer).command
            output = Path(trainer.default_root_dir) / "edited"
            with self.progress() as report:
                write_edit(self._edit.plan, output, overwrite=True, command=command, progress=report)

    @override
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.toggle(pl_module, edited=batch.edited)

    @override
    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.toggle(pl_module, edited=batch.arm.edited)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.toggle(pl_module, edited=False)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.toggle(pl_module, edited=False)
