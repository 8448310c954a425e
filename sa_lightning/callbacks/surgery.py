"""SurgeryCallback: remove the harm direction from the loaded model's parameters, and put it back."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.fitting import Surgery
from sa_lightning.surgery import EditSettings, write_edit


class SurgeryCallback(Callback):
    """Edit the target's weights while a run asks for edited weights: subtract a trimmed harm vector, as a rule.

    During a fit, the first pass over the demonstrations sees the original and the second the edited
    weights. During validation and prediction, each arm says which it wants. The weights are
    given back bit for bit.

    The work is that of `fitting.Surgery`, which is its attribute `surgery`.

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
        chosen = EditSettings(**settings)
        self.save_edited = save_edited
        self.surgery = Surgery(
            harm,
            base,
            chosen,
            weights=weights,
            benign=benign,
            stand_in=stand_in,
            aligned=aligned,
            unaligned=unaligned,
            direction=direction,
            direction_layer=direction_layer,
            prompts=prompts,
            kl_prompts=kl_prompts,
            scores=scores,
        )
        self.surgery.warn = rank_zero_warn

    @classmethod
    def of(cls, trainer: Trainer) -> "Surgery | None":
        """Return the run's surgery, if it has one to do."""
        found = [callback for callback in trainer.callbacks if isinstance(callback, cls)]  # type: ignore[attr-defined]
        return found[0].surgery if found and found[0].surgery.wanted else None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "SurgeryCallback":
        """Redo the surgery that an artifact was fitted with."""
        callback = cls(save_edited=False)
        callback.surgery = Surgery.from_record(record)
        callback.surgery.warn = rank_zero_warn
        return callback

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self.surgery.open(str(pl_module.target), pl_module.revision)

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
