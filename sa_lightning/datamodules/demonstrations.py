"""DemonstrationDataModule: contrastive pairs as batches under a token budget, both sides of a pair together."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from sa_lightning.datamodules.sampling import ShardedBatchSampler
from sa_lightning.errors import SettingError
from sa_lightning.fitting.demonstrations import Demonstrations
from sa_lightning.fitting.extraction import StateReader, plan_for
from sa_lightning.models import PassageBatch, PassagePair, collate
from sa_lightning.ranges import check_numbers


class DemonstrationDataModule(LightningDataModule):
    """Pairs of a safe and an unsafe answer to the same question.

    Args:
        demonstrations: File of pairs (.jsonl, .json, .csv, .tsv, .xlsx, .parquet) with columns `question`,
            `safe`, `unsafe`, or transcripts in `chosen` and `rejected`, or questions alone in `harmless` and `harmful`.
        limit: Use only the first so many pairs; the paper takes about 30.
        batch_tokens: Most tokens a batch may have, padding included; a batch that does not fit in memory is halved. If
            not set, 1024 on a CPU, which gains nothing from more, and 4096 elsewhere.
        batch_size: Most pairs a batch may have; each is two sequences. As many as `batch_tokens` allows if not set.
        share_prefixes: Whether what both sides of a pair begin with runs once. If not set, where it saves at least a
            fifth of all tokens and the model allows it. Never where the model is split over processes.
        max_length: Most tokens a sequence may have; longer ones lose their beginning, never the end
            of the answer. The model's own limit if not set.
        skip_incomplete: Leave out rows with an empty answer instead of refusing the file.
    """

    def __init__(
        self,
        demonstrations: str,
        limit: int | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        share_prefixes: bool | None = None,
        max_length: int | None = None,
        skip_incomplete: bool = False,
    ) -> None:
        super().__init__()
        given = {"limit": limit, "batch_tokens": batch_tokens, "batch_size": batch_size, "max_length": max_length}
        for name, value in given.items():
            check_numbers(f"data.{name}", value)
        self.demonstrations = Demonstrations(demonstrations, limit, max_length, skip_incomplete)
        self.batch_tokens = batch_tokens
        self.batch_size = batch_size
        self.share_prefixes = share_prefixes
        self.shared = False
        self.reader: StateReader | None = None  # batches are planned for the reader that is going to run them

    def setup(self, stage: str) -> None:
        """Read and check the pairs; the model is not loaded yet."""
        self.demonstrations.read()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of pairs, alike in length, in an order that no seed changes."""
        trainer: Any = self.trainer
        module: Any = trainer.lightning_module
        passages = self.demonstrations.passages(module.tokenizer, module.max_length)
        if module.sharded and self.share_prefixes:
            raise SettingError(
                "`--data.share_prefixes true` with `--trainer.strategy sharded`.\n"
                "The processes of a split model run the same forwards; a batch without a common prefix has one less.\n"
                "Leave one of the two out."
            )
        share = False if module.sharded else self.share_prefixes
        reader = self.reader or StateReader(module.network, module.blocks)
        batches, self.shared = plan_for(reader, passages, self.batch_tokens, self.batch_size, share)
        return DataLoader(
            _Rows(passages),
            batch_sampler=ShardedBatchSampler(batches, trainer.global_rank, trainer.world_size),  # type: ignore[arg-type]
            collate_fn=self._collate,
        )

    def _collate(self, rows: list[tuple[int, bool, PassagePair]]) -> PassageBatch:
        indices, counted, pairs = zip(*rows, strict=True)
        return collate(pairs, indices, counted, self.shared)


class _Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, pairs: list[PassagePair]) -> None:
        self.pairs = pairs

    def __getitem__(self, key: tuple[int, bool]) -> tuple[int, bool, PassagePair]:
        index, counted = key
        return index, counted, self.pairs[index]
