"""ProvenanceCallback: what was typed, with which versions and settings, beside every output."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sa_lightning.files import write_whole


class ProvenanceCallback(Callback):
    """Write <verb>.json and <verb>.yaml into the output directory when a run has ended well.

    Verbs that share an output directory so keep each their own.

    Args:
        command: What was typed.
        config: The whole configuration, as YAML.
        versions: Of the packages that matter, by name.
        seed: Of the run.
        verb: `fit`, `validate` or `predict`.
    """

    def __init__(
        self,
        command: str = "",
        config: str = "",
        versions: dict[str, str] | None = None,
        seed: int | None = None,
        verb: str = "fit",
    ) -> None:
        self.command = command
        self.config = config
        self.versions = versions or {}
        self.seed = seed
        self.verb = verb
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @classmethod
    def of(cls, trainer: Trainer) -> "ProvenanceCallback":
        """Return the run's provenance; an empty one if the run was started from Python without it."""
        found = [callback for callback in trainer.callbacks if isinstance(callback, cls)]  # type: ignore[attr-defined]
        return found[0] if found else cls()

    def mark(self, stage: str) -> None:
        """Book the seconds since the last mark to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._started
        self._started = now

    def record(self) -> dict[str, Any]:
        """Return what the JSON file holds."""
        return {"command": self.command, "seed": self.seed, "versions": self.versions, "seconds": self.seconds}

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark("load")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark("fit")
        self._write(trainer)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark("load")

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer)

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark("predict")
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            output = Path(trainer.default_root_dir)
            record = {**self.record(), "processes": trainer.world_size}
            write_whole(output / f"{self.verb}.json", json.dumps(record, indent=2) + "\n")
            write_whole(output / f"{self.verb}.yaml", self.config)
