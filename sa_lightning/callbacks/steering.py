"""SteeringCallback: apply an artifact while an arm is measured or replied to, then let go."""

from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sa_lightning.steered import check_layers, choose_set, steer
from sa_lightning.steering import SteeringArtifact, check_strength


class SteeringCallback(Callback):
    """Steer the model in the arms that ask for it.

    Args:
        artifact: Directory or Hub repository written by `sa fit`; without one, nothing is steered.
        strength: Instead of that of the artifact's rule of pairs, or of its only rule, in the unit of its intervention:
            a number for all layers, or one per layer, as `{12: 0.1, 13: 0.2}` (in quotes, and with a blank behind each
            colon).
        trust_record: Let the surgery that the artifact records download checkpoints, and read files of prompts that are
            not those of the fit. Without it, an artifact reads nothing but the weights that it names here, and prompts
            whose SHA-256 it has.
    """

    def __init__(
        self,
        artifact: str | None = None,
        strength: float | dict[int, float] | None = None,
        trust_record: bool = False,
    ) -> None:
        self.trust_record = trust_record
        self.artifact = SteeringArtifact.from_pretrained(artifact) if artifact else None
        if strength is not None and self.artifact is not None:
            self.artifact = self.artifact.with_strength(strength)
            assert self.artifact.first is not None
            for directions in self.artifact.first.directions.values():
                check_layers(strength, directions)
        elif strength is not None:
            check_strength(strength)
        self.strength = strength
        self._hooks = ExitStack()

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.artifact is not None:
            text: Any = pl_module.text_config
            self.artifact.check_model(text.num_hidden_layers, text.hidden_size, str(pl_module.target))

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_weights(pl_module)

    @override
    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_weights(pl_module)

    def _check_weights(self, pl_module: Any) -> None:
        """Refuse weights that the artifact was not fitted on, in every process, before anything is measured."""
        if self.artifact is not None:
            choose_set(pl_module.network, self.artifact)

    def _start(self, pl_module: Any, arm: Any) -> None:
        if arm.steered:
            assert self.artifact is not None
            artifact = self.artifact if arm.control is None else self.artifact.randomised(arm.control)
            self._hooks.enter_context(steer(pl_module.network, artifact if arm.gated else artifact.without_gates()))

    @override
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._start(pl_module, batch)

    @override
    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._hooks.close()

    @override
    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._start(pl_module, batch.arm)

    @override
    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._hooks.close()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._hooks.close()
