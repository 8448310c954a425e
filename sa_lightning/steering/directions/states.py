"""The states that pairs of passages leave in the stream."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sa_lightning.errors import ModelError
from sa_lightning.steering.directions.moments import PairMoments


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
