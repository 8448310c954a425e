"""DemonstrationDataModule: contrastive pairs as batches under a token budget, both sides of a pair together."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from sa_lightning.datamodules.sampling import ShardedBatchSampler
from sa_lightning.errors import DataError, SettingError
from sa_lightning.files import sha256
from sa_lightning.fitting.extraction import StateReader, plan_for
from sa_lightning.models import PassageBatch, PassagePair, Position, collate, passage
from sa_lightning.steering import Demonstration, read_demonstrations, shuffled


class DemonstrationDataModule(LightningDataModule):
    """Pairs of a safe and an unsafe answer to the same question.

    Args:
        demonstrations: File of pairs (.jsonl, .jsonl.gz, .json, .csv) with columns `question`,
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
        for name, value in (
            ("limit", limit),
            ("batch_tokens", batch_tokens),
            ("batch_size", batch_size),
            ("max_length", max_length),
        ):
            if value is not None and value < 1:
                raise DataError(
                    f"`data.{name}` must be at least 1, but is {value}.\n"
                    "Nothing would be read.\nLeave it out for the default."
                )
        self.path = demonstrations
        self.limit = limit
        self.batch_tokens = batch_tokens
        self.batch_size = batch_size
        self.share_prefixes = share_prefixes
        self.max_length = max_length
        self.skip_incomplete = skip_incomplete
        self.pairs: list[Demonstration] = []
        self.skipped = 0
        self.truncated = 0
        self.shared = False
        self.reader: StateReader | None = None  # whoever reads says how; batches are planned for it
        self._reading: tuple[Position, int] = ("last", 1)
        self._shuffle: int | None = None
        self._passages: list[PassagePair] | None = None

    def setup(self, stage: str) -> None:
        """Read and check the pairs; the model is not loaded yet."""
        if not self.pairs:
            self.pairs, self.skipped = read_demonstrations(self.path, self.limit, self.skip_incomplete)

    def read_at(self, position: Position, tokens: int) -> None:
        """Say where states will be read, as `models.passage` takes it."""
        if (position, tokens) != self._reading:
            self._reading, self._passages = (position, tokens), None

    def shuffle(self, seed: int | None) -> None:
        """Let the sides differ in nothing, as a control (`steering.shuffled`), or, without a seed, as they do."""
        if seed != self._shuffle:
            self._shuffle, self._passages = seed, None

    @property
    def count(self) -> int:
        """How many pairs are read; of shuffled ones, an even number."""
        return len(self.pairs) - (len(self.pairs) % 2 if self._shuffle is not None else 0)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the artifact says about its demonstrations."""
        return {
            "file": Path(self.path).name,
            "sha256": sha256(self.path),
            "pairs": self.count,
            "role": self.pairs[0].role,
            "skipped": self.skipped,
            "truncated": self.truncated,
        }

    def passages(self) -> list[PassagePair]:
        """Tokenise every pair once; count sequences that were cut."""
        if self._passages is None:
            module: Any = self.trainer.lightning_module  # type: ignore[union-attr]
            limit = min(filter(None, (self.max_length, module.max_length)), default=None)
            self._passages = []
            for number, pair in enumerate(self.pairs, start=1):
                try:
                    safe, unsafe = (
                        passage(module.tokenizer, pair.messages(side), *self._reading, max_length=limit)
                        for side in ("safe", "unsafe")
                    )
                except DataError as error:
                    raise DataError(f"Pair {number} of {Path(self.path).name}: {error}") from error
                self._passages.append((safe, unsafe))
            if self._shuffle is not None:
                self._passages = shuffled(self._passages, self._shuffle)
            self.truncated = sum(member.cut for pair in self._passages for member in pair)
        return self._passages

    def fingerprint(self) -> str:
        """Identify the tokens that are run, and where they are read."""
        found = hashlib.sha256()
        for pair in self.passages():
            found.update(repr([(member.ids, member.read) for member in pair]).encode())
        return found.hexdigest()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of pairs, alike in length, in an order that no seed changes."""
        passages = self.passages()
        trainer: Any = self.trainer
        module: Any = trainer.lightning_module
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
