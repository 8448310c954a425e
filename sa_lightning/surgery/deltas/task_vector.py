"""The task vector: what fine-tuning changed, some rows of one parameter at a time."""

import difflib
import math

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import CheckpointError, CheckpointMismatchError
from sa_lightning.surgery.checkpoints.checkpoint import INPUT_EMBEDDING, OUTPUT_EMBEDDING
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import check_finite, whole
from sa_lightning.surgery.scope import Scope

__all__ = ["TaskVector", "check_match"]


class TaskVector:
    """The difference finetuned − base, formed in float32 when it is asked for.

    Task vectors: Ilharco et al., https://arxiv.org/abs/2212.04089. The harm vector of Safety
    Arithmetic (https://arxiv.org/abs/2406.11801, Eq. 1) is the task vector of a harmful
    fine-tune: it points *towards* harm, and the edit subtracts it. The safety vector of RESTA
    (https://arxiv.org/abs/2402.11746) is that from an unaligned model to the aligned one; that from
    a base to its aligned model is another one, which also holds all else that alignment taught.

    Only the names in scope need to match, and they are checked here, from headers alone.

    Args:
        base: The weights before fine-tuning.
        finetuned: The weights after it.
        scope: Which parameters are meant. By default all.
        roles: What the two are called in reports.

    Raises:
        CheckpointMismatchError: If a name in scope is missing on either side, or if its shapes
            differ.
        NothingToDoError: If the scope matches nothing.
    """

    def __init__(
        self,
        base: Weights,
        finetuned: Weights,
        scope: Scope | None = None,
        roles: tuple[str, str] = ("base", "harm"),
    ) -> None:
        self.base = base
        self.finetuned = finetuned
        self.scope = scope or Scope()
        self.names: tuple[str, ...] = tuple(self.scope.names(base))
        self.inputs: dict[str, Weights] = dict(zip(roles, (base, finetuned), strict=True))
        self.formula: str = f"{roles[1]} − {roles[0]}"
        check_match(base, finetuned, self.scope)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.base.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """The difference finetuned − base in some rows of a parameter, in float32, on the CPU.

        Raises:
            CheckpointError: If a value is not finite; the message names tensor and checkpoint.
        """
        before, after = self.base.rows(piece).float(), self.finetuned.rows(piece).float()
        delta = after - before
        if not math.isfinite(float(delta.sum())) and not bool(torch.isfinite(delta).all()):
            check_finite(piece.name, before, self.base.source)
            check_finite(piece.name, after, self.finetuned.source)
            raise CheckpointError(
                f"`{piece.name}` differs by more than float32 can hold between {self.base.source} and "
                f"{self.finetuned.source}.\nThese are not a model and its fine-tune."
            )
        return delta

    def delta(self, name: str) -> Float[Tensor, "..."]:
        """The whole difference of one parameter."""
        return whole(self, name)


def check_match(base: Weights, other: Weights, scope: Scope) -> None:
    """Raise unless both have the same names and shapes within the scope. Reads headers only."""
    expected, given = scope.select(base), scope.select(other)
    for here, there, names in ((base, other, expected), (other, base, given)):
        known = {*there.names, *(there.aliases if here is base else ())}
        for name in names:
            if name in known:
                continue
            tied = there.aliases.get(name) or _tied_to(name, there)
            alike = difflib.get_close_matches(name, {*there.names} - {*here.names}, 1, 0.6)
            lack = f"{there.source} ties it to `{tied}`" if tied else f"{there.source} lacks it"
            lack += f", and has `{alike[0]}`" if alike and not tied else ""
            raise CheckpointMismatchError(
                f"`{name}` is a parameter of its own in {here.source}, but {lack}.\n"
                "Arithmetic between checkpoints pairs parameters by name, so both must be of one "
                f"architecture.\nIf the rest fits, leave it out: `scope.exclude: ['{name}']`."
            )
    for name in dict.fromkeys([*expected, *given]):
        for weights in (base, other):
            dtype = weights.dtype(name)
            if not dtype.is_floating_point:
                raise CheckpointMismatchError(
                    f"`{name}` is of type {dtype} in {weights.source}, and a parameter in the other checkpoint.\n"
                    "Whole numbers are packed weights or a mistake, and their differences mean nothing.\n"
                    "Give the checkpoint that it was made from."
                )
    for name in expected:
        if other.shape(name) == base.shape(name):
            continue
        remedy = f"If the rest fits, leave it out: `scope.exclude: ['{name}']`."
        if INPUT_EMBEDDING.search(name) or OUTPUT_EMBEDDING.search(name):
            remedy = "If fine-tuning added tokens, or rows to fill up, leave the embeddings out: " + (
                "`scope.exclude: ['*embed_tokens*', '*lm_head*']`."
                if "embed_tokens" in name or "lm_head" in name
                else "`scope.embeddings: false` and `scope.lm_head: false`."
            )
        raise CheckpointMismatchError(
            f"`{name}` has shape {other.shape(name)} in {other.source} but {base.shape(name)} in "
            f"{base.source}.\nA task vector is a difference entry by entry, so all checkpoints "
            f"must have the shapes of the base.\n{remedy}"
        )


def _tied_to(head: str, weights: Weights) -> str | None:
    """The embeddings that a checkpoint without a head has in its place, as its config says."""
    if not (OUTPUT_EMBEDDING.search(head) and getattr(weights, "ties_embeddings", False)):
        return None
    return next((name for name in weights.names if INPUT_EMBEDDING.search(name)), None)
