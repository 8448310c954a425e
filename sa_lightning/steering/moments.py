"""Sums over pairs that are too many to keep: enough for means and principal components."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.steering.principal import top_eigenvector


@dataclass(frozen=True)
class PairMoments:
    """What is summed over pairs, in float64. Two of them add up to that of all their pairs.

    Attributes:
        count: Number of pairs.
        safe: Sum of the states after the safe answers.
        unsafe: Likewise after the unsafe answers.
        norms: Sum of the norms of both.
        second: Σ d dᵀ over the differences d = safe − unsafe, or empty (zero layers) where it is not needed.
    """

    count: Int[Tensor, ""]
    safe: Float[Tensor, "layers d_model"]
    unsafe: Float[Tensor, "layers d_model"]
    norms: Float[Tensor, " layers"]
    second: Float[Tensor, "some_layers d_model d_model"]

    @classmethod
    def of(cls, safe: Float[Tensor, "n layers d_model"], unsafe: Float[Tensor, "n layers d_model"], second: bool):
        """Sum over pairs; `second` says whether the second moment is needed. Zero pairs give zeros."""
        safe, unsafe = safe.double(), unsafe.double()
        difference = (safe - unsafe).transpose(0, 1)
        return cls(
            count=torch.tensor(len(safe)),
            safe=safe.sum(0),
            unsafe=unsafe.sum(0),
            norms=safe.norm(dim=-1).sum(0) + unsafe.norm(dim=-1).sum(0),
            second=(difference.mT @ difference) if second else safe.new_zeros(0, *2 * safe.shape[-1:]),
        )

    def __add__(self, other: "PairMoments") -> "PairMoments":
        """Sum over the pairs of both."""
        return PairMoments(*(mine + yours for mine, yours in zip(self.tensors(), other.tensors(), strict=True)))

    def tensors(self) -> tuple[Tensor, ...]:
        """The sums, in the order of the attributes."""
        return self.count, self.safe, self.unsafe, self.norms, self.second

    def direction(self, method: str) -> Float[Tensor, "layers d_model"]:
        """Return `mean`, `principal` or `principal_centred`, as `DIRECTIONS` does from states; the sign is not chosen.

        Raises:
            SettingError: If the method needs the states themselves.
        """
        mean = (self.safe - self.unsafe) / self.count
        if method == "mean":
            return mean
        if method == "principal":
            return top_eigenvector(self.second)
        if method == "principal_centred":
            return top_eigenvector(self.second - self.count * mean[:, :, None] * mean[:, None, :])
        raise SettingError(
            f"`--steering.direction {method}` needs the states of all pairs, but of these {int(self.count)} only sums "
            "are kept.\nSums are enough for `mean`, `principal` and `principal_centred`.\n"
            "Choose one of these, read fewer pairs with `--data.limit`, or keep more: `--steering.keep_states`."
        )
