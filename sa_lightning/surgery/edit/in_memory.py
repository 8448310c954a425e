"""The edit on a loaded model: applied, undone and applied again, bit for bit."""

import difflib
from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointMismatchError
from sa_lightning.files import Json
from sa_lightning.surgery.checkpoints.slices import joined
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import ModelWeights
from sa_lightning.surgery.edit.plan import EditPlan

__all__ = ["EditInMemory", "check_holds", "form", "swap"]


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
        self._report: Json | None = None
        check_holds(plan, weights)

    def apply(self) -> "EditInMemory":
        """Put the edited weights in place; if they already are, do nothing."""
        if self._stash is None:
            # Before the model changes: the plan may read from the very weights it changes.
            self.plan.statistics.clear()
            stash = form(self.plan, self.plan.names, self.weights, self.progress)
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

    def report(self, command: str | None = None) -> Json:
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

    def _swap(self) -> None:
        assert self._stash is not None
        swap(self.weights, self._stash)
        self.active = not self.active


def check_holds(plan: EditPlan, weights: ModelWeights) -> None:
    """Refuse a model that does not hold the plan's parameters under their names on disk.

    Raises:
        CheckpointMismatchError: If a name is missing, has another shape, or is tied on one side only.
    """
    known = {*weights.names, *weights.aliases}
    untied = [name for name in plan.target.aliases if name in weights.names]
    wrong = [name for name in plan.names if name not in known or weights.shape(name) != plan.delta.shape(name)]
    if wrong or untied:
        name = (wrong or untied)[0]
        shape = weights.shape(name) if name in known else None
        others = [other for other in weights.names if other not in plan.names] or weights.names
        alike = "".join(difflib.get_close_matches(name, others, 1, 0.0))
        what = f"does not exist (but `{alike}` does)" if shape is None else f"has shape {shape}"
        raise CheckpointMismatchError(
            f"`{name}` {'is not tied' if not wrong else what} in {weights.source}, unlike in "
            f"{plan.target.source} ({len(wrong or untied)} such names), where {plan.delta.formula} is to change it.\n"
            "Some architectures rename or fuse weights when they are loaded, and the edit is "
            "computed in the names on disk.\nEdit the checkpoint first with `sa edit`, then "
            "load the result."
        )


def form(
    plan: EditPlan, names: Sequence[str], weights: ModelWeights, progress: Progress | None = None
) -> dict[str, Tensor]:
    """Form some edited tensors of a model, on the CPU; the model stays as it is."""
    pieces: dict[str, list[Tensor]] = {name: [] for name in names}
    for piece, rows in plan.edited(names, weights, lambda _, rows: rows, "editing", progress):
        pieces[piece.name].append(rows)
    return {name: joined(found, weights.shape(name), weights.dtype(name)) for name, found in pieces.items()}


def swap(weights: ModelWeights, stash: dict[str, Tensor]) -> None:
    """Exchange the contents of a model's tensors and of a stash: of all, or, if that is interrupted, of none."""
    done: list[str] = []
    with torch.no_grad():
        try:
            for name in stash:
                _exchange(weights.parameter(name), stash, name)
                done.append(name)
        except BaseException:
            for name in done:
                _exchange(weights.parameter(name), stash, name)
            raise


def _exchange(live: Tensor, stash: dict[str, Tensor], name: str) -> None:
    replacement, current = stash[name], live.detach().to("cpu", copy=True)
    try:
        live.copy_(replacement)
        stash[name] = current
    except BaseException:
        live.copy_(current)
        stash[name] = replacement
        raise
