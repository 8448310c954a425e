"""The task vector: what fine-tuning changed, one parameter at a time."""

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import CheckpointError, CheckpointMismatchError
from sa_lightning.surgery.checkpoint import INPUT_EMBEDDING, OUTPUT_EMBEDDING
from sa_lightning.surgery.scope import Scope
from sa_lightning.surgery.weights import Weights

__all__ = ["TaskVector", "check_match"]


class TaskVector:
    """The difference finetuned − base, formed in float32 when it is asked for.

    Task vectors: Ilharco et al., https://arxiv.org/abs/2212.04089. The harm vector of Safety
    Arithmetic (https://arxiv.org/abs/2406.11801, Eq. 1) is the task vector of a harmful
    fine-tune: it points *towards* harm, and the edit subtracts it.

    Only the names in scope need to match, and they are checked here, from headers alone.

    Args:
        base: The weights before fine-tuning.
        finetuned: The weights after it.
        scope: Which parameters are meant. By default all.

    Raises:
        CheckpointMismatchError: If a name in scope is missing on either side, or if its shapes
            differ.
        NothingToDoError: If the scope matches nothing.
    """

    def __init__(self, base: Weights, finetuned: Weights, scope: Scope | None = None) -> None:
        self.base = base
        self.finetuned = finetuned
        self.scope = scope or Scope()
        self.names: tuple[str, ...] = tuple(self.scope.names(base))
        check_match(base, finetuned, self.scope)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.base.shape(name)

    def delta(self, name: str) -> Float[Tensor, "..."]:
        """The difference finetuned − base of one parameter, in float32, on the CPU.

        Raises:
            CheckpointError: If a value is not finite; the message names tensor and checkpoint.
        """
        before, after = self.base.read(name).float(), self.finetuned.read(name).float()
        delta = after - before
        if not bool(torch.isfinite(delta).all()):
            check_finite(name, before, self.base.source)
            check_finite(name, after, self.finetuned.source)
            raise CheckpointError(
                f"`{name}` differs by more than float32 can hold between {self.base.source} and "
                f"{self.finetuned.source}.\nThese are not a model and its fine-tune."
            )
        return delta


def check_finite(name: str, values: Float[Tensor, "..."], source: str) -> None:
    """Raise if a tensor has NaN or infinite values, which no ordering by magnitude can place."""
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise CheckpointError(
            f"`{name}` has {bad} NaN or infinite values in {source}.\n"
            "No arithmetic on them is meaningful: training probably diverged. Take an earlier "
            f"checkpoint, or leave the parameter out: `scope.exclude: ['{name}']`."
        )


def check_match(base: Weights, other: Weights, scope: Scope) -> None:
    """Raise unless both have the same names and shapes within the scope. Reads headers only."""
    expected, given = scope.select(base), scope.select(other)
    for here, there, names in ((base, other, expected), (other, base, given)):
        known = {*there.names, *(there.aliases if here is base else ())}
        for name in names:
            if name in known:
                continue
            tied = there.aliases.get(name)
            lack = f"{there.source} ties it to `{tied}`" if tied else f"{there.source} lacks it"
            raise CheckpointMismatchError(
                f"`{name}` is a parameter of its own in {here.source}, but {lack}.\n"
                "Arithmetic between checkpoints pairs parameters by name, so both must be of one "
                f"architecture.\nIf the rest fits, leave it out: `scope.exclude: ['{name}']`."
            )
    for name in expected:
        if other.shape(name) == base.shape(name):
            continue
        remedy = f"If the rest fits, leave it out: `scope.exclude: ['{name}']`."
        if INPUT_EMBEDDING.search(name) or OUTPUT_EMBEDDING.search(name):
            remedy = (
                "If fine-tuning added tokens, leave the embeddings out: "
                "`scope.exclude: ['*embed_tokens*', '*lm_head*']`."
            )
        raise CheckpointMismatchError(
            f"`{name}` has shape {other.shape(name)} in {other.source} but {base.shape(name)} in "
            f"{base.source}.\nA task vector is a difference entry by entry, so all checkpoints "
            f"must have the shapes of the base.\n{remedy}"
        )
