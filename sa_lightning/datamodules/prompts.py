"""PromptDataModule: prompts to reply to under every arm."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from sa_lightning.datamodules.arms import Arm, choose_arms
from sa_lightning.datamodules.sampling import ShardedBatchSampler
from sa_lightning.errors import DataError
from sa_lightning.ranges import check_numbers
from sa_lightning.rows import PROMPT, Message, Prompt, check_text, conversation


class PromptBatch(NamedTuple):
    """Some prompts for one arm, each a conversation that ends with the user."""

    arm: Arm
    indices: list[int]
    prompts: list[list[Message]]


class PromptDataModule(LightningDataModule):
    """Prompts to reply to, side by side under every arm.

    Args:
        prompts: The prompts themselves; `--data.file` reads a file of them.
        file: File of prompts: .txt (one a line), or .jsonl, .json, .csv, .tsv, .xlsx, .parquet with a column `prompt`
            (or `question`, `goal`), or `messages`: turns {"role", "content"}, the last one by the user.
        limit: Use only the first so many.
        batch_size: Prompts a batch.
        arms: Which of `original`, `steered`, `edited`, `edited+steered` to run; all that the artifact
            allows if not set.
        gates_apart: Reply without and with the artifact's gates: arms `steered` and `gated`.
    """

    def __init__(
        self,
        prompts: list[str] | None = None,
        file: str | None = None,
        limit: int | None = None,
        batch_size: int = 16,
        arms: list[str] | None = None,
        gates_apart: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("limit", limit), ("batch_size", batch_size)):
            check_numbers(f"data.{name}", value)
        if any(not prompt.strip() for prompt in prompts or ()):
            raise DataError(
                f"`data.prompts` holds a blank one, of {len(prompts or ())}.\nNothing is asked by it.\nLeave it out."
            )
        given = [check_text(text, f"`data.prompts` has {text!a:.60}") for text in prompts or ()]
        self.prompts: list[Prompt] = [*given, *(read_prompts(file) if file else [])][:limit]
        if not self.prompts:
            raise DataError(
                "There are no prompts to reply to.\n"
                "Replies are written side by side for every arm.\n"
                "Give some: `--data.prompts '[\"How do I ...?\"]'` or `--data.file prompts.txt`."
            )
        self.batch_size = batch_size
        self.names = arms
        self.gates_apart = gates_apart
        self.arms: list[Arm] = []

    def choose(self, *, has_artifact: bool, has_surgery: bool, has_gate: bool = False) -> list[Arm]:
        """Fix the arms once it is known what the artifact holds."""
        self.arms = choose_arms(
            self.names,
            has_artifact=has_artifact,
            has_surgery=has_surgery,
            has_gate=has_gate,
            gates_apart=self.gates_apart,
        )
        return self.arms

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the prompts once for every arm, arm by arm."""
        asked = [conversation(prompt) for prompt in self.prompts]
        order = sorted(range(len(asked)), key=lambda index: sum(len(turn["content"]) for turn in asked[index]))
        chunks = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        batches = [PromptBatch(arm, chunk, [asked[index] for index in chunk]) for arm in self.arms for chunk in chunks]
        trainer: Any = self.trainer
        sampler = ShardedBatchSampler([[i] for i in range(len(batches))], trainer.global_rank, trainer.world_size)
        return DataLoader(
            batches,  # type: ignore[arg-type]  # a list is a data set, whatever its type says
            sampler=[batch[0][0] for batch in sampler],
            batch_size=None,
        )


def read_prompts(file: str | Path) -> list[Prompt]:
    """Read prompts, or conversations, from a file in any format of `rows`; one with another ending has a prompt a line.

    Raises:
        DataError: If the file is missing or a row has no prompt.
    """
    if not os.path.isfile(file):
        raise DataError(f"There is no file of prompts at {file}.\nReplies need prompts.\nCheck `--data.file`.")
    return [row["prompt"] for _, row in PROMPT.of(file, otherwise=".txt")]
