"""EvaluationCallback: measure every arm, report once."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sa_lightning.callbacks.provenance import ProvenanceCallback


class EvaluationCallback(Callback):
    """Hand the module its measure, collect the results of all arms, and pass them on.

    Knows neither lm-eval nor the tasks: the command line brings both functions along. Every process measures every
    arm; how prompts are shared between processes is the business of `evaluate`, which gives each of them all results.

    Args:
        evaluate: `(model, arm) -> results` of one arm.
        report: Called once, in the first process, with arm name to results, in the order they ran.
    """

    def __init__(self, evaluate: Callable[[Any, Any], Any], report: Callable[[dict[str, list[Any]]], None]) -> None:
        self.evaluate = evaluate
        self.report = report
        self.results: dict[str, list[Any]] = {}

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
        if trainer.is_global_zero:
            self.report(self.results)
