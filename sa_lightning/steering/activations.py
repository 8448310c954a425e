"""The states that demonstrations leave in the stream, one row a pair."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def gather_mean(
    hidden: Float[Tensor, "batch pos d_model"],
    positions: Int[Tensor, "batch count"],
    valid: Bool[Tensor, "batch count"],
) -> Float[Tensor, "batch d_model"]:
    """Average the states at the given positions, on the device, in float32.

    Args:
        hidden: Output of a block.
        positions: Indices of the tokens to read, as from `models.last_positions`.
        valid: Which of them are real tokens; the others do not count.

    Returns:
        One vector a row; with one position per row, that state itself.
    """
    rows = torch.arange(hidden.shape[0], device=hidden.device)[:, None]
    states = hidden[rows, positions].float()
    weights = valid[..., None].float()
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


@dataclass(frozen=True)
class PairStates:
    """States after the safe and after the unsafe answer of the same pairs.

    Attributes:
        safe: Shape (pairs, layers, d_model), float32.
        unsafe: The same shape and order.
    """

    safe: Float[Tensor, "pairs layers d_model"]
    unsafe: Float[Tensor, "pairs layers d_model"]

    def statistics(self, directions: Float[Tensor, "layers d_model"]) -> dict[str, list[float]]:
        """Describe how well each layer tells the two sides apart, for the artifact and its plot.

        Returns:
            Per layer: `activation_norm`, mean norm over both sides; `difference_norm`, norm of the
            mean difference; `separation`, the fraction of pairs whose safe state lies further along
            the direction than its unsafe one (0.5 is chance, ties count half; in sample).
        """
        both = torch.cat([self.safe, self.unsafe]).double()
        projected = ((self.safe - self.unsafe).double() * directions.double()).sum(-1)
        wins = (projected > 0).double() + 0.5 * (projected == 0).double()
        return {
            "activation_norm": both.norm(dim=-1).mean(0).tolist(),
            "difference_norm": (self.safe - self.unsafe).double().mean(0).norm(dim=-1).tolist(),
            "separation": wins.mean(0).tolist(),
        }
