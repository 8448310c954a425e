"""States that an interrupted run has read already, on disk, so that the same command goes on."""

import contextlib
import time
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sa_lightning.callbacks.pair_states import PairStatesMetric
from sa_lightning.files import json_digest, whole_file

SHARE = 0.05  # of the time may go into writing
LEAST = 20.0  # seconds between two writes


class UnfinishedStates:
    """One directory with a file per process; each file holds all that its process has read so far.

    A file is written beside its name and renamed, so that none is ever half there. What was read with other weights,
    passages or settings is recognised by its key, and left out.

    Args:
        directory: Beside what the run will write.
        key: Everything the states depend on.
        rank: Of this process.
    """

    def __init__(self, directory: Path, key: dict[str, Any], rank: int) -> None:
        self.directory, self.rank = directory, rank
        self.key = json_digest(key)
        self.generation = 0
        self._began = self._written = time.monotonic()
        self._cost = 0.0
        self._made_parent = not directory.parent.exists()

    @classmethod
    def resume(
        cls, trainer: Trainer, key: dict[str, Any], metric: PairStatesMetric
    ) -> tuple["UnfinishedStates", Tensor]:
        """Count in, in the first process, what an interrupted run has read; tell all which pairs that is.

        Args:
            trainer: Of the run, which writes to its `default_root_dir`.
            key: Everything the states depend on; how the metric keeps them is added.
            metric: What the states go to; empty.

        Returns:
            Where this run keeps its own, and a mask of the pairs that are not to be read again.
        """
        held = {"kept": metric.kept.nonzero().flatten().tolist(), "second": len(metric.sums.second) > 0}
        unfinished = cls(Path(trainer.default_root_dir) / "unfinished", {**key, **held}, trainer.global_rank)
        if trainer.is_global_zero:
            found = unfinished.load()
            for tensors in found:
                metric.add(tensors)
            if found:
                unfinished.merge(metric.tensors())
        unfinished.generation, done = trainer.strategy.broadcast((unfinished.generation, metric.seen > 0))
        return unfinished, done

    def load(self) -> list[dict[str, Tensor]]:
        """Return what earlier runs have left, no pair twice: where files overlap, the one of the later run counts."""
        found = []
        for path in self.directory.glob("*.safetensors"):
            try:
                with safe_open(path, framework="pt") as file:
                    metadata = file.metadata() or {}
            except (SafetensorError, OSError):
                continue  # not ours, or of a crash of the machine: its pairs are read again
            if metadata.get("key") == self.key:
                found.append((int(metadata["generation"]), path))
        taken: list[dict[str, Tensor]] = []
        for generation, path in sorted(found, key=lambda entry: (-entry[0], entry[1].name)):
            tensors = load_file(path)
            if not any(bool((tensors["seen"] * other["seen"]).any()) for other in taken):
                taken.append(tensors)
            self.generation = max(self.generation, generation)
        return taken

    def due(self) -> bool:
        """Whether so much time has passed that writing again costs little."""
        return time.monotonic() - self._written > max(LEAST, self._cost / SHARE)

    def is_young(self) -> bool:
        """Whether so little time has passed that nothing is lost by starting again."""
        return time.monotonic() - self._began < LEAST

    def save(self, tensors: dict[str, Tensor]) -> bool:
        """Write what this process holds, instead of what it wrote before; where that fails, warn and go on without."""
        began = time.monotonic()
        path = self.directory / f"{self.key[:12]}-{self.generation}-{self.rank}.safetensors"
        metadata = {"key": self.key, "generation": str(self.generation)}
        try:
            with whole_file(path) as partial:
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=metadata)
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"What has been read could not be written to {self.directory} ({error}). The run goes on, but if it is "
                "interrupted, it starts again. Is the disk full?",
                stacklevel=2,
            )
            self._written = float("inf")  # once is enough
            return False
        self._written = time.monotonic()
        self._cost = self._written - began
        return True

    def merge(self, tensors: dict[str, Tensor]) -> None:
        """Write what was loaded as one file of a new run, and remove the files it came from."""
        self.generation += 1
        if self.save(tensors):
            for path in self._files():
                if int(path.name.split("-")[1]) < self.generation:
                    path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove these files: what they were kept for is finished. Those of other runs stay."""
        with contextlib.suppress(OSError):
            for path in self._files():
                path.unlink(missing_ok=True)
            self.directory.rmdir()  # if it is empty
            if self._made_parent:
                self.directory.parent.rmdir()  # likewise

    def _files(self) -> list[Path]:
        return [
            path for path in self.directory.glob(f"*{self.key[:12]}-*") if path.suffix in (".safetensors", ".partial")
        ]
