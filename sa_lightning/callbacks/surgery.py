"""SurgeryCallback: remove the harm direction from the loaded model's parameters, and put it back."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.fitting import Surgery
from sa_lightning.surgery import SurgeryOptions, write_edit
from sa_lightning.surgery.edit.on_disk import check_space


class SurgeryCallback(Callback):
    """Edit the target's weights while a run asks for edited weights: subtract a trimmed harm vector, as a rule.

    During a fit, the first pass over the demonstrations sees the original and the second the edited
    weights. During validation and prediction, each arm says which it wants. The weights are
    given back bit for bit.

    The work is that of `fitting.Surgery`, which is its attribute `surgery`. Without a source of a delta (`harm`,
    `aligned`, `unaligned`, `direction`) there is no surgery.

    Args:
        save_edited: Write <output>/edited, a checkpoint of the edited target.
        **options: Sources and settings of the edit.
    """

    def __init__(self, save_edited: bool = True, **options: Any) -> None:
        sources, settings = SurgeryOptions(target=None, **options).split()
        self.save_edited = save_edited
        self.surgery = Surgery(sources.lasting(), settings)
        self.surgery.warn = rank_zero_warn

    @classmethod
    def of(cls, trainer: Trainer) -> "Surgery | None":
        """Return the run's surgery, if it has one to do."""
        found = cls.there(trainer)
        return found if found is not None and found.wanted else None

    @classmethod
    def there(cls, trainer: Trainer) -> "Surgery | None":
        """Return the run's surgery, also if it has nothing to do but to know the base."""
        found = [callback for callback in trainer.callbacks if isinstance(callback, cls)]  # type: ignore[attr-defined]
        return found[0].surgery if found else None

    @classmethod
    def from_record(cls, record: dict[str, Any], trust: bool = False) -> "SurgeryCallback":
        """Redo the surgery that an artifact was fitted with; `trust` as of `Surgery.from_record`."""
        callback = cls(save_edited=False)
        callback.surgery = Surgery.from_record(record, trust)
        callback.surgery.warn = rank_zero_warn
        return callback

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if self.surgery.wanted:
            *_, target = self.surgery.open(str(pl_module.target), pl_module.revision, pl_module.quantization)
            if self.save_edited:
                check_space(
                    sum(file.stat().st_size for file in target.files), Path(trainer.default_root_dir) / "edited"
                )
        else:
            self.surgery.check_unused()

    def toggle(self, pl_module: Any, edited: bool) -> None:
        """Bring the model into the state asked for."""
        if edited:
            self.surgery.apply(pl_module.network, pl_module.tokenizer, pl_module.dtype_name)
        else:
            self.surgery.undo()

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.toggle(pl_module, edited=self.surgery.wanted and trainer.current_epoch > 0)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.toggle(pl_module, edited=False)
        plan = self.surgery.plan
        if plan is not None and self.save_edited and trainer.is_global_zero:
            command = ProvenanceCallback.of(trainer).command
            output = Path(trainer.default_root_dir) / "edited"
            with self.surgery.progress() as report:
                write_edit(plan, output, overwrite=True, command=command, progress=report)

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
