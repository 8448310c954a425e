"""PredictionCallback: collect the replies of all arms and write them side by side."""

from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sa_lightning.ranges import check_numbers
from sa_lightning.rows import conversation, write_rows


class PredictionCallback(Callback):
    """Write <output>/predictions.jsonl, one line a prompt: `{"prompt", "replies": {arm: text}}`; for its owner alone.

    A prompt of several turns stands there as they are.

    Args:
        max_new_tokens: Most tokens a reply may have.
    """

    def __init__(self, max_new_tokens: int = 64) -> None:
        check_numbers("prediction.max_new_tokens", max_new_tokens)
        self.max_new_tokens = max_new_tokens
        self.rows: list[dict[str, Any]] = []
        self._replies: dict[tuple[int, str], str] = {}

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        pl_module.generation = {"max_new_tokens": self.max_new_tokens}  # type: ignore[assignment]

    @override
    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for index, reply in zip(batch.indices, outputs, strict=True):
            self._replies[index, batch.arm.name] = reply

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        replies = self._replies
        if trainer.world_size > 1:
            everyone: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(everyone, replies)
            replies = {key: reply for found in everyone for key, reply in found.items()}
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if any((index, arm.name) not in replies for index in range(len(data.prompts)) for arm in data.arms):
            return  # somebody has stopped the run
        self.rows = [
            {
                "prompt": prompt if isinstance(prompt, str) else conversation(prompt),
                "replies": {arm.name: replies[index, arm.name] for arm in data.arms},
            }
            for index, prompt in enumerate(data.prompts)
        ]
        if trainer.is_global_zero:
            write_rows(Path(trainer.default_root_dir) / "predictions.jsonl", self.rows)
