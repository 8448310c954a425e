"""SurgeryCallback: remove the harm direction from the loaded model's parameters, and put it back."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.errors import CheckpointMismatchError
from sa_lightning.models import base_of, is_adapter
from sa_lightning.surgery import (
    Checkpoint,
    EditInMemory,
    EditSettings,
    ModelWeights,
    Scope,
    TaskVector,
    check_match,
    plan_edit,
    write_edit,
)

ProgressBars = Callable[[], AbstractContextManager[Callable[[str, int, int], None] | None]]


def _lasting(source: str) -> str:
    """Write a local directory so that it is found from elsewhere, too."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


class SurgeryCallback(Callback):
    """Subtract a trimmed harm vector from the target while a run asks for edited weights.

    During a fit, the first pass over the demonstrations sees the original and the second the edited
    weights. During validation and prediction, each arm says which it wants. The weights are
    given back bit for bit.

    `progress` may be set to a context manager of bars, as `sa` does: a selection over a large model
    takes minutes.

    Args:
        harm: Harmful fine-tune of the base: directory or Hub id of a checkpoint, or directory of a
            PEFT adapter. Without one there is no surgery.
        base: The checkpoint that the harm model was fine-tuned from; the target itself if not set (of an
            adapter, its base).
        save_edited: Write <output>/edited, a checkpoint of the edited target.
    """

    def __init__(
        self, harm: str | None = None, base: str | None = None, save_edited: bool = True, **settings: Any
    ) -> None:
        self.harm = harm
        self.base = base
        self.save_edited = save_edited
        self.settings = EditSettings(**settings)
        self.progress: ProgressBars = lambda: nullcontext(None)
        self.inputs: dict[str, dict[str, str]] | None = None
        self._edit: EditInMemory | None = None

    @classmethod
    def of(cls, trainer: Trainer) -> "SurgeryCallback | None":
        """Return the run's surgery, if it has one with a harm model."""
        found = [callback for callback in trainer.callbacks if isinstance(callback, cls)]  # type: ignore[attr-defined]
        return found[0] if found and found[0].harm else None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "SurgeryCallback":
        """Rebuild the surgery that an artifact was fitted with."""
        settings = {**record["settings"], "scope": Scope(**record["settings"]["scope"])}
        surgery = cls(harm=record["harm"], base=record["base"], save_edited=False, **settings)
        surgery.inputs = record.get("inputs")
        return surgery

    def record(self) -> dict[str, Any]:
        """Return inputs, settings and what came of them, for the artifact."""
        report = self._edit.report() if self._edit is not None else {}
        settings = dataclasses.asdict(self.settings)
        kept = ("inputs", "threshold", "n", "k", "density_achieved", "retained_energy", "relative_norm", "per_layer")
        return {
            "harm": self.harm,
            "base": self.base,
            "settings": settings,
            **{key: report[key] for key in kept if key in report},
        }

    @property
    def applied(self) -> bool:
        """Whether the model has the edited weights now."""
        return self._edit is not None and self._edit.active

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the checkpoints, and refuse what does not fit, before any weight is read."""
        if self.harm is None:
            return
        self.base = _lasting(self.base or base_of(str(pl_module.target)))
        self.harm = _lasting(self.harm)
        base, harm, target = self._checkpoints(pl_module)
        TaskVector(base, harm, self.settings.scope)
        check_match(base, target, self.settings.scope)

    def _checkpoints(self, pl_module: Any) -> tuple[Checkpoint, Checkpoint, Checkpoint]:
        """Open base, harm and target by their headers."""
        source, revision = str(pl_module.target), None if is_adapter(str(pl_module.target)) else pl_module.revision
        target = Checkpoint.open(source, revision=revision)
        assert self.base, "setup has found one"
        assert self.harm, "without a harm model nothing is opened"
        base = target if self.base == source else Checkpoint.open(self.base)
        return base, Checkpoint.open(self.harm), target

    def toggle(self, pl_module: Any, edited: bool) -> None:
        """Bring the model into the state asked for."""
        if edited and self._edit is None:
            with self.progress() as report:
                plan = plan_edit(*self._checkpoints(pl_module), self.settings, progress=report)
            if pl_module.dtype_name != "auto":
                # The edit on disk is that of the weights as they were loaded.
                plan.settings = dataclasses.replace(self.settings, dtype=pl_module.dtype_name)
                plan.rounds_first = True
            self._edit = EditInMemory(plan, ModelWeights(pl_module.network))
        if self._edit is not None and edited != self._edit.active:
            (self._edit.apply if edited else self._edit.undo)()
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
        self.toggle(pl_module, edited=self.harm is not None and trainer.current_epoch > 0)

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
