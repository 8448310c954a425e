"""PromptDataModule: prompts to reply to under every arm."""

from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from sa_lightning.datamodules.arms import Arm, choose_arms
from sa_lightning.datamodules.sampling import ShardedBatchSampler
from sa_lightning.errors import DataError
from sa_lightning.ranges import check_numbers
from sa_lightning.rows import iter_rows


class PromptBatch(NamedTuple):
    """Some prompts for one arm."""

    arm: Arm
    indices: list[int]
    prompts: list[str]


class PromptDataModule(LightningDataModule):
    """Prompts to reply to, side by side under every arm.

    Args:
        prompts: The prompts themselves.
        file: File of prompts: .txt (one a line), .jsonl or .csv with a column `prompt` (or `question`, `goal`).
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
        self.prompts = ([*(prompts or ())] + (read_prompts(file) if file else []))[:limit]
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
        order = sorted(range(len(self.prompts)), key=lambda index: len(self.prompts[index]))
        chunks = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        batches = [
            PromptBatch(arm, chunk, [self.prompts[index] for index in chunk]) for arm in self.arms for chunk in chunks
        ]
        trainer: Any = self.trainer
        sampler = ShardedBatchSampler([[i] for i in range(len(batches))], trainer.global_rank, trainer.world_size)
        return DataLoader(
            batches,  # type: ignore[arg-type]  # a list is a data set, whatever its type says
            sampler=[batch[0][0] for batch in sampler],
            batch_size=None,
        )


def read_prompts(file: str | Path) -> list[str]:
    """Read prompts from a text, JSON Lines or CSV file.

    Raises:
        DataError: If the file is missing or a row has no prompt.
    """
    path = Path(file)
    if not path.is_file():
        raise DataError(f"There is no file of prompts at {path}.\nReplies need prompts.\nCheck `--data.file`.")
    if path.suffix not in (".jsonl", ".csv"):
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = []
    for number, row in iter_rows(path):
        values = [row[key] for key in ("prompt", "question", "goal") if isinstance(row, dict) and row.get(key)]
        if not values:
            raise DataError(
                f"{path.name}, row {number} has no column `prompt`, `question` or `goal`.\n"
                "Replies need prompts.\nName the column so."
            )
        found.append(str(values[0]))
    return found
