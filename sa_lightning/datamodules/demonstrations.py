"""DemonstrationDataModule: contrastive pairs as padded batches, both sides of a pair together."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from sa_lightning.datamodules.sampling import ShardedBatchSampler
from sa_lightning.errors import DataError
from sa_lightning.models import tokenize
from sa_lightning.steering import Demonstration, read_demonstrations
from sa_lightning.steering.demonstrations import digest

Tokens = tuple[list[int], list[int]]


class DemonstrationDataModule(LightningDataModule):
    """Pairs of a safe and an unsafe answer to the same question.

    Args:
        demonstrations: File of pairs (.jsonl, .jsonl.gz, .json, .csv) with columns `question`,
            `safe`, `unsafe`, or transcripts in `chosen` and `rejected`.
        limit: Use only the first so many pairs; the paper takes about 30.
        batch_size: Pairs a batch; each is two sequences.
        max_length: Most tokens a sequence may have; longer ones lose their beginning, never the end
            of the answer. The model's own limit if not set.
        skip_incomplete: Leave out rows with an empty answer instead of refusing the file.
    """

    def __init__(
        self,
        demonstrations: str,
        limit: int | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        skip_incomplete: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("limit", limit), ("batch_size", batch_size), ("max_length", max_length)):
            if value is not None and value < 1:
                raise DataError(
                    f"`data.{name}` must be at least 1, but is {value}.\n"
                    "Nothing would be read.\nLeave it out for the default."
                )
        self.path = demonstrations
        self.limit = limit
        self.batch_size = batch_size
        self.max_length = max_length
        self.skip_incomplete = skip_incomplete
        self.pairs: list[Demonstration] = []
        self.skipped = 0
        self.truncated = 0
        self._tokens: list[Tokens] | None = None

    def setup(self, stage: str) -> None:
        """Read and check the pairs; the model is not loaded yet."""
        if not self.pairs:
            self.pairs, self.skipped = read_demonstrations(self.path, self.limit, self.skip_incomplete)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the artifact says about its demonstrations."""
        return {
            "file": Path(self.path).name,
            "sha256": digest(self.path),
            "pairs": len(self.pairs),
            "skipped": self.skipped,
            "truncated": self.truncated,
        }

    def tokens(self) -> list[Tokens]:
        """Tokenise every pair once; count sequences that were cut."""
        if self._tokens is None:
            module: Any = self.trainer.lightning_module  # type: ignore[union-attr]
            limit = min(filter(None, (self.max_length, module.max_length)), default=None)
            self._tokens, self.truncated = [], 0
            for pair in self.pairs:
                sides = [tokenize(module.tokenizer, pair.messages(side), limit) for side in ("safe", "unsafe")]
                self._tokens.append((sides[0][0], sides[1][0]))
                self.truncated += sum(cut for _, cut in sides)
        return self._tokens

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of pairs, alike in length, in an order that no seed changes."""
        tokens = self.tokens()
        order = sorted(range(len(tokens)), key=lambda index: max(map(len, tokens[index])))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        trainer: Any = self.trainer
        return DataLoader(
            _Rows(tokens),
            batch_sampler=ShardedBatchSampler(batches, trainer.global_rank, trainer.world_size),  # type: ignore[arg-type]
            collate_fn=_collate,
        )


class _Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, tokens: list[Tokens]) -> None:
        self.tokens = tokens

    def __getitem__(self, key: tuple[int, bool]) -> tuple[int, bool, Tokens]:
        index, counted = key
        return index, counted, self.tokens[index]


def _collate(rows: list[tuple[int, bool, Tokens]]) -> dict[str, Tensor]:
    """Pad on the right; safe sides first, then unsafe ones, in the order of `pairs`."""
    sequences = [tokens[side] for side in (0, 1) for _, _, tokens in rows]
    width = max(map(len, sequences))
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": mask,
        "pairs": torch.tensor([index for index, _, _ in rows]),
        "counted": torch.tensor([counted for _, counted, _ in rows]),
    }
