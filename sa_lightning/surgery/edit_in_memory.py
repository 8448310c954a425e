"""The edit on a loaded model: applied, undone and applied again, bit for bit."""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointMismatchError
from sa_lightning.surgery.edit import EditPlan
from sa_lightning.surgery.slices import Slice, joined
from sa_lightning.surgery.streaming import Progress
from sa_lightning.surgery.weights import ModelWeights

__all__ = ["EditInMemory"]


class EditInMemory:
    """Apply a planned edit to the live parameters of a model, and undo it.

    The first `apply` computes every edited tensor before it touches the model; from then on
    `undo` and `apply` swap contents with a stash in main memory, so the weights come back bit
    for bit. Parameter objects stay the same and may live on any device. The arithmetic acts on
    the model's own values, on the CPU, and so gives the bits that `write_edit` writes if the
    model was loaded in the target's data type.

    Args:
        plan: The edit. Its target is the model itself or the checkpoint it was loaded from.
        weights: The model's weights.
        progress: Told how far the first `apply` has come.

    Raises:
        CheckpointMismatchError: If the model does not hold the plan's parameters under their
            names on disk. Some architectures rename or fuse weights when they are loaded.

    Example:
        `with EditInMemory(plan, ModelWeights(model)): model.generate(...)`
    """

    def __init__(self, plan: EditPlan, weights: ModelWeights, progress: Progress | None = None) -> None:
        self.plan = plan
        self.progress = progress
        self.weights = weights
        self.active: bool = False
        self._stash: dict[str, Tensor] | None = None
        self._report: dict[str, Any] | None = None
        known = {*weights.names, *weights.aliases}
        untied = [name for name in plan.target.aliases if name in weights.names]
        wrong = [name for name in plan.names if name not in known or weights.shape(name) != plan.delta.shape(name)]
        if wrong or untied:
            name = (wrong or untied)[0]
            shape = weights.shape(name) if name in known else None
            what = "does not exist" if shape is None else f"has shape {shape}"
            raise CheckpointMismatchError(
                f"`{name}` {'is not tied' if not wrong else what} in {weights.source}, unlike in "
                f"{plan.target.source} ({len(wrong or untied)} such names).\n"
                "Some architectures rename or fuse weights when they are loaded, and the edit is "
                "computed in the names on disk.\nEdit the checkpoint first with `sa edit`, then "
                "load the result."
            )

    def apply(self) -> "EditInMemory":
        """Put the edited weights in place; if they already are, do nothing."""
        if self._stash is None:
            # Before the model changes: the plan may read from the very weights it changes.
            stash = self._edited()
            self.plan.check_changed()
            self._report = self.plan.report()
            changed = {name for name, statistics in self.plan.statistics.items() if statistics.changed}
            self._stash = {name: edited for name, edited in stash.items() if name in changed}
        if not self.active:
            self._swap()
        return self

    def undo(self) -> "EditInMemory":
        """Put the original weights back, bit for bit; if they already are, do nothing."""
        if self.active:
            self._swap()
        return self

    def report(self, command: str | None = None) -> dict[str, Any]:
        """The content of `surgery.json`, with the fingerprints from before the first `apply`."""
        if self._report is None:
            raise RuntimeError("The edit has no statistics before the first `apply`.")
        return {**self._report, "command": command}

    def __enter__(self) -> "EditInMemory":
        return self.apply()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.undo()

    def _edited(self) -> dict[str, Tensor]:
        pieces: dict[str, list[Tensor]] = {name: [] for name in self.plan.names}
        self.plan.statistics.clear()
        for part, rows in self.plan.edited(self.plan.names, self.weights, _rows, "editing", self.progress):
            pieces[part.name].append(rows)
        weights = self.weights
        return {name: joined(found, weights.shape(name), weights.dtype(name)) for name, found in pieces.items()}

    def _swap(self) -> None:
        assert self._stash is not None
        with torch.no_grad():
            for name, replacement in self._stash.items():
                live = self.weights.parameter(name)
                current = live.detach().to("cpu", copy=True)
                live.copy_(replacement)
                self._stash[name] = current
        self.active = not self.active


def _rows(_: Slice, rows: Tensor) -> Tensor:
    return rows
