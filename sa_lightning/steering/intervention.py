"""How a direction acts on the stream: tensor in, tensor out.

Every intervention is `(hidden, direction, strength) -> hidden` with a unit direction that points
towards the safe side. The arithmetic is in float32, the result in the dtype of `hidden`. Strength 0
returns `hidden` bit for bit; a state of norm 0 stays 0.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import SettingError

Hidden = Float[Tensor, "*batch d_model"]
Direction = Float[Tensor, " d_model"]


def add(hidden: Hidden, direction: Direction, strength: float) -> Hidden:
    """Add `strength` times the norm of each state along the direction.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Length of the step as a fraction of the norm of the state it is added to.
    """
    x = hidden.float()
    return (x + strength * x.norm(dim=-1, keepdim=True) * direction.float()).to(hidden.dtype)


def add_keep_norm(hidden: Hidden, direction: Direction, strength: float) -> Hidden:
    """Add along the direction, then rescale each state to the norm it had.

    Eq. 9-10 of Safety Arithmetic (arXiv 2406.11801): h + α·v, rescaled to ‖h‖. The paper does not
    state the length of v; here α is a fraction of ‖h‖, so that one number means the same at every
    layer. Written as x' = (x + a‖x‖u) / √(1 + 2ac + a²) with c = cos(x, u): one norm, one product.
    A state parallel to the direction is unchanged.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: a above; negative steps lead away from the safe side.
    """
    return _step(hidden, direction, lambda cosine: torch.full_like(cosine, strength))


def add_keep_norm_adaptive(hidden: Hidden, direction: Direction, strength: float) -> Hidden:
    """The step of the authors' code: longer where the state points to the unsafe side.

    a = strength · (1 + max(0, cos(x, −u))) (declare-lab/safety-arithmetic at 404fbd5, where the
    strength is a further 0.1 times the paper's α, and x is the output of the MLP). Otherwise as
    `add_keep_norm`.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Step at states orthogonal to the direction; up to twice that at opposite ones.
    """
    return _step(hidden, direction, lambda cosine: strength * (1 + torch.relu(-cosine)))


def _step(hidden: Tensor, direction: Tensor, length: Callable[[Tensor], Tensor]) -> Tensor:
    x, u = hidden.float(), direction.float()
    norm = x.norm(dim=-1, keepdim=True)
    cosine = (x * u).sum(-1, keepdim=True) / norm.clamp(min=torch.finfo(torch.float32).tiny)
    a = length(cosine)
    scale = (1 + 2 * a * cosine + a * a).clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    return ((x + a * norm * u) / scale).to(hidden.dtype)


class Intervention(Protocol):
    """What all interventions look like."""

    def __call__(self, hidden: Tensor, direction: Tensor, strength: float) -> Tensor:
        """Return the moved states."""
        ...


def check_strength(strength: float) -> None:
    """Refuse a strength that leaves nothing of a state.

    Raises:
        SettingError: If it is not in (-1, 1).
    """
    if not abs(strength) < 1:
        raise SettingError(
            f"`steering.strength` is a fraction of each state's norm and must lie in (-1, 1), but is {strength}.\n"
            "A step as long as the state itself leaves nothing of it.\nThe paper's value is 0.12."
        )


INTERVENTIONS: dict[str, Intervention] = {
    "add": add,
    "add_keep_norm": add_keep_norm,
    "add_keep_norm_adaptive": add_keep_norm_adaptive,
}
