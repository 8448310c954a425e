"""EvaluationCallback: measure every arm, collect what the processes found, report once."""

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sa_lightning.callbacks.provenance import ProvenanceCallback


class EvaluationCallback(Callback):
    """Hand the module its measure, gather the results of all arms, and pass them on.

    Knows neither lm-eval nor the tasks: the command line brings both functions along.

    Args:
        evaluate: `(model, arm) -> results` of one arm; it must be possible to pickle them.
        report: Called once, in the first process, with arm name to results, in the order they ran.
    """

    def __init__(self, evaluate: Callable[[Any, Any], Any], report: Callable[[dict[str, Any]], None]) -> None:
        self.evaluate = evaluate
        self.report = report
        self.results: dict[str, Any] = {}

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        pl_module.evaluate = self.evaluate  # type: ignore[assignment]
        self.results = {}

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.results[batch.name] = outputs
        ProvenanceCallback.of(trainer).mark(f"arm {batch.name}")

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            everyone: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(everyone, self.results)
            merged = {name: result for found in everyone for name, result in found.items()}
            order = [arm.name for arm in trainer.datamodule.arms]  # type: ignore[attr-defined]
            self.results = {name: merged[name] for name in order}
        if trainer.is_global_zero:
            self.report(self.results)
