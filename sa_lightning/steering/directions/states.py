"""The states that pairs of passages leave in the stream, and sums over pairs that are too many to keep."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.steering.directions.principal import top_eigenvector
from sa_lightning.steering.typed import norm_of


def gather_mean(
    hidden: Float[Tensor, "*batch_pos d_model"],
    positions: Int[Tensor, "batch count"],
    valid: Bool[Tensor, "batch count"],
) -> Float[Tensor, "batch d_model"]:
    """Average the states at the given positions, on the device, in float32.

    Args:
        hidden: Output of a block, shape (batch, pos, d_model), or (batch · pos, d_model) as OPT's last map writes it.
        positions: Indices of the tokens to read, as from `models.last_positions`.
        valid: Which of them are real tokens; the others do not count.

    Returns:
        One vector a row; with one position per row, that state itself.

    Raises:
        ModelError: If the output has another shape, as in families with several streams.
    """
    if (
        hidden.dim() > 3
        or hidden.shape[0] % len(positions)
        or (hidden.dim() == 3 and hidden.shape[0] != len(positions))
    ):
        raise ModelError(
            f"A block writes states of shape {tuple(hidden.shape)} for {len(positions)} sequences, where (sequences, "
            "tokens, d_model) is expected.\nThis family's stream has several parts, of which none can be read alone.\n"
            "Another site may do: `--steering.capture_site mlp` or `attention`."
        )
    rows = torch.arange(len(positions), device=hidden.device)[:, None]
    positions = positions.to(hidden.device)
    states = hidden.reshape(len(positions), -1, hidden.shape[-1])[rows, positions].float()
    weights = valid.to(hidden.device)[..., None].float()
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


@dataclass
class PairMoments:
    """What is summed over pairs, in float64, on the host. Two of them add up to that of all their pairs.

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
    def zero(cls, layers: int, d_model: int, second: bool) -> "PairMoments":
        """The sums over no pairs; `second` says whether the second moment is needed: layers · d_model² · 8 bytes."""
        wide = torch.float64
        return cls(
            count=torch.tensor(0),
            safe=torch.zeros(layers, d_model, dtype=wide),
            unsafe=torch.zeros(layers, d_model, dtype=wide),
            norms=torch.zeros(layers, dtype=wide),
            second=torch.zeros(layers if second else 0, d_model, d_model, dtype=wide),
        )

    @classmethod
    def of(
        cls, safe: Float[Tensor, "n layers d_model"], unsafe: Float[Tensor, "n layers d_model"], second: bool
    ) -> "PairMoments":
        """The sums over these pairs."""
        found = cls.zero(*safe.shape[1:], second=second)
        found.take_in(safe, unsafe)
        return found

    def take_in(self, safe: Float[Tensor, "n layers d_model"], unsafe: Float[Tensor, "n layers d_model"]) -> None:
        """Add pairs to the sums, in place, one layer at a time in float64."""
        for layer in range(safe.shape[1]):
            first, other = safe[:, layer].double().cpu(), unsafe[:, layer].double().cpu()
            self.safe[layer] += first.sum(0)
            self.unsafe[layer] += other.sum(0)
            self.norms[layer] += norm_of(first).sum() + norm_of(other).sum()
            if len(self.second):
                difference = first - other
                self.second[layer].addmm_(difference.T, difference)
        self.count += len(safe)

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
            return torch.stack([self._centred(layer, mean[layer]) for layer in range(len(mean))])
        raise SettingError(refusal(method, int(self.count)))

    def _centred(self, layer: int, mean: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        """The first component around the mean; where differences do not vary, but by rounding, the mean."""
        moment = self.second[layer] - self.count * torch.outer(mean, mean)
        varies = bool(moment.trace() > 1e-10 * self.second[layer].trace())
        return top_eigenvector(moment) if varies else mean


@dataclass(frozen=True)
class PairStates:
    """States of the safe and of the unsafe passages of the same pairs.

    Attributes:
        safe: Shape (pairs, layers, d_model), float32.
        unsafe: The same shape and order.
        others: Sums over further pairs whose states were not kept, or None.
    """

    safe: Float[Tensor, "pairs layers d_model"]
    unsafe: Float[Tensor, "pairs layers d_model"]
    others: PairMoments | None = None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.safe) + (0 if self.others is None else int(self.others.count))

    def moments(self, second: bool) -> PairMoments:
        """Return the sums over all pairs."""
        kept = PairMoments.of(self.safe, self.unsafe, second)
        return kept if self.others is None else kept + self.others


SUMS_ARE_ENOUGH = ("mean", "principal", "principal_centred")


def refusal(method: str, pairs: int) -> str:
    """What to say of a method that needs the states of all pairs where only sums are kept."""
    return (
        f"`--steering.direction {method}` needs the states of all pairs, but of {pairs} pairs only sums are kept.\n"
        f"Sums are enough for {', '.join(f'`{name}`' for name in SUMS_ARE_ENOUGH)}.\n"
        "Choose one of these, read fewer pairs with `--data.limit`, or keep more: `--steering.keep_states`."
    )
