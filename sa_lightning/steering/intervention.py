"""How a direction acts on the stream: tensor in, tensor out.

Every intervention is `(hidden, direction, strength) -> hidden` with a unit direction that points towards the safe side;
with `match` it is of another length, and with `add_mapped` a matrix takes its place. The arithmetic is in float32, the
result in the dtype of `hidden`. `INTERVENTIONS` says in which unit each takes its strength. Nothing here looks at a
value: the same operations run for every tensor, so that they compile and never wait for the device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sa_lightning.errors import SettingError

Hidden = Float[Tensor, "*batch d_model"]
Direction = Float[Tensor, " d_model"]
Mapping = Float[Tensor, "d_model d_model"]
Strength = float | Float[Tensor, "..."]  # a number, or one for each row, of a shape that fits the states


def add(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
    """Add `strength` times the norm of each state along the direction.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Length of the step as a fraction of the norm of the state it is added to; 0 changes nothing.
    """
    x = hidden.float()
    return (x + strength * x.norm(dim=-1, keepdim=True) * direction.float()).to(hidden.dtype)


def add_absolute(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
    """Add a step of the same length at every token: contrastive activation addition (arXiv 2312.06681).

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Length of the step, in the unit of the activations; 0 changes nothing.
    """
    return (hidden.float() + strength * direction.float()).to(hidden.dtype)


def add_keep_norm(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
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
    return _step(hidden, direction, lambda cosine: strength)


def add_keep_norm_adaptive(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
    """The step of the authors' code: longer where the state points to the unsafe side.

    a = strength · (1 + max(0, cos(x, −u))) (declare-lab/safety-arithmetic at 404fbd5, where the
    strength is a further 0.1 times the paper's α, and x is the output of the MLP). Otherwise as
    `add_keep_norm`.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Step at states orthogonal to the direction; up to twice that at opposite ones, of which 0.5 and more
            would leave nothing.
    """
    return _step(hidden, direction, lambda cosine: strength * (1 + torch.relu(-cosine)))


def ablate(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
    """Remove what lies along the direction (Arditi et al., arXiv 2406.11717, Eq. 4): x − s (x·u) u.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector; its sign does not matter.
        strength: Fraction that is removed: 1 all of it, 0 nothing. Twice with 1 is once, up to rounding.
    """
    x, u = hidden.float(), direction.float()
    return (x - strength * (x * u).sum(-1, keepdim=True) * u).to(hidden.dtype)


def clamp(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
    """Set the coordinate along the direction: x + (s − x·u) u, as lm-eval's `steered` does.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: The coordinate that every state gets, in the unit of the activations. 0 is no
            neutral value: it is full ablation.
    """
    x, u = hidden.float(), direction.float()
    return (x + (strength - (x * u).sum(-1, keepdim=True)) * u).to(hidden.dtype)


def match(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
    """Lead the coordinate along the direction to the direction's own length: x + s (d − (x·u) u), with u = d / ‖d‖.

    Ablation to a mean in place of zero: d is where ordinary prompts lie along u, on either side of 0.

    Args:
        hidden: States, any leading shape.
        direction: d, of any length but 0.
        strength: s, how much of the way: 1 all of it, 0 nothing. Twice with 1 is once, up to rounding.
    """
    x, d = hidden.float(), direction.float()
    u = d / d.norm().clamp(min=torch.finfo(torch.float32).tiny)
    return (x + strength * (d - (x * u).sum(-1, keepdim=True) * u)).to(hidden.dtype)


def add_mapped(hidden: Hidden, mapping: Mapping, strength: Strength) -> Hidden:
    """Add s Δ h: a step that each state decides by itself, as AlphaSteer does (arXiv 2506.07022).

    Args:
        hidden: States, any leading shape.
        mapping: Δ, from `null_space_map`, in place of a direction.
        strength: s; 0 changes nothing.
    """
    x = hidden.float()
    return (x + strength * (x @ mapping.float().T)).to(hidden.dtype)


def _step(hidden: Tensor, direction: Tensor, length: Callable[[Tensor], Strength]) -> Tensor:
    x, u = hidden.float(), direction.float()
    norm = x.norm(dim=-1, keepdim=True)
    cosine = (x * u).sum(-1, keepdim=True) / norm.clamp(min=torch.finfo(torch.float32).tiny)
    a = length(cosine)
    scale = (1 + 2 * a * cosine + a * a).clamp(min=1e-12).sqrt()  # rounding must not divide rounding
    return ((x + a * norm * u) / scale).to(hidden.dtype)


@dataclass(frozen=True)
class Intervention:
    """A way to act, with what its strength means.

    Attributes:
        change: `(hidden, direction, strength) -> hidden`.
        unit: Of the strength, for people.
        low: Smallest strength that makes sense, exclusive unless `closed`.
        high: Largest one.
        closed: Whether the bounds themselves are allowed.
        neutral: Whether strength 0 changes nothing.
    """

    change: Callable[[Tensor, Tensor, Strength], Tensor]
    unit: str
    low: float = -math.inf
    high: float = math.inf
    closed: bool = False
    neutral: bool = True

    def __call__(self, hidden: Tensor, direction: Tensor, strength: Strength) -> Tensor:
        """Return the moved states."""
        return self.change(hidden, direction, strength)

    def allows(self, strength: float) -> bool:
        """Say whether a strength lies within the bounds; NaN does not."""
        inside = self.low < strength < self.high
        return inside or (self.closed and strength in (self.low, self.high))


FRACTION = "fraction of the norm of the state it is added to"
LENGTH = "length, in the unit of the activations"
REMOVED = "fraction of the component that is removed"
WAY = "fraction of the way"
TIMES = "factor of the mapped state"

INTERVENTIONS: dict[str, Intervention] = {
    "add": Intervention(add, FRACTION, -1, 1),
    "add_absolute": Intervention(add_absolute, LENGTH),
    "add_keep_norm": Intervention(add_keep_norm, FRACTION, -1, 1),
    "add_keep_norm_adaptive": Intervention(add_keep_norm_adaptive, FRACTION, -1, 0.5),
    "ablate": Intervention(ablate, REMOVED, 0, 1, closed=True),
    "match": Intervention(match, WAY, 0, 1, closed=True),
    "add_mapped": Intervention(add_mapped, TIMES),
    "clamp": Intervention(clamp, "coordinate along the direction, in the unit of the activations", neutral=False),
}


WHY = {
    FRACTION: "A step as long as the state itself leaves nothing of it.\nThe paper's value is 0.12.",
    WAY: "There is nothing beyond its end, nor before its beginning.\nTo go all of it, write 1.",
    REMOVED: "More than all cannot be removed, nor less than nothing.\nRemove all of it with 1.",
}


def check_strength(
    strength: float | dict[int, float], intervention: str = "add_keep_norm", name: str = "steering.strength"
) -> None:
    """Refuse a strength that an intervention cannot take: a number for all layers, or one per layer.

    Args:
        strength: What is asked for.
        intervention: A name in `INTERVENTIONS`.
        name: Of the setting, for the message.

    Raises:
        SettingError: If one lies outside the intervention's bounds, or is not a number.
    """
    chosen = INTERVENTIONS[intervention]
    for where, value in _each(strength):
        if not chosen.allows(value):
            bounds = f"[{chosen.low}, {chosen.high}]" if chosen.closed else f"({chosen.low}, {chosen.high})"
            raise SettingError(
                f"`{name}`{where} is {value}, but `{intervention}` takes a {chosen.unit}, in {bounds}.\n"
                f"{WHY.get(chosen.unit, 'A number that is none would break every reply.')}"
            )


def times(strength: float | dict[int, float], factor: float) -> float | dict[int, float]:
    """A strength, or one per layer, times a factor."""
    if isinstance(strength, dict):
        return {layer: factor * value for layer, value in strength.items()}
    return factor * strength


def _each(strength: float | dict[int, float]) -> list[tuple[str, float]]:
    if isinstance(strength, dict):
        return [(f" of layer {layer}", value) for layer, value in strength.items()]
    return [("", strength)]


class Step(nn.Module):
    """One intervention at one place, with its direction and strength where the place computes.

    The two are buffers, made once: no copy, no conversion and no synchronisation while steering.

    Args:
        intervention: A name in `INTERVENTIONS`.
        direction: Unit vector, or the matrix of `add_mapped`.
        strength: In the intervention's unit.
        device: Of the module whose output is changed.
    """

    direction: Tensor
    strength: Tensor

    def __init__(
        self, intervention: str, direction: Direction | Mapping, strength: float, device: torch.device
    ) -> None:
        super().__init__()
        self.change = INTERVENTIONS[intervention].change
        self.register_buffer("direction", direction.detach().to(device, torch.float32), persistent=False)
        self.register_buffer("strength", torch.tensor(strength, dtype=torch.float32, device=device), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the moved states."""
        return self.change(hidden, self.direction, self.strength)
