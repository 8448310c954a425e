"""How a direction acts on the stream: tensor in, tensor out.

Every intervention is `(hidden, direction, strength) -> hidden` with a unit direction that points towards the safe side;
with `match` it is of another length, and with `add_mapped` a matrix takes its place. The arithmetic is in float32, the
result in the dtype of `hidden`. `INTERVENTIONS` says in which unit each takes its strength. The `add` interventions are
relative: their strength is a fraction of `typical`, the typical norm of a state at the layer, or, without one, of the
norm that each state has itself. Nothing here looks at a value: the same operations run for every tensor, so that they
compile and never wait for the device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sa_lightning.errors import SettingError
from sa_lightning.steering.typed import norm_of

Hidden = Float[Tensor, "*batch d_model"]
Direction = Float[Tensor, " d_model"]
Mapping = Float[Tensor, "d_model d_model"]
Strength = float | Float[Tensor, "..."]  # a number, or one for each row, of a shape that fits the states
Norm = float | Float[Tensor, ""] | None  # typical norm of a state at the layer; None: each state's own


def add(hidden: Hidden, direction: Direction, strength: Strength, typical: Norm = None) -> Hidden:
    """Add `strength` times the typical norm along the direction.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Length of the step as a fraction of `typical`; 0 changes nothing.
        typical: Typical norm at the layer; without one, the norm of the state that is added to.
    """
    x = hidden.float()
    norm = norm_of(x, keepdim=True) if typical is None else typical
    return (x + strength * norm * direction.float()).to(hidden.dtype)


def add_absolute(hidden: Hidden, direction: Direction, strength: Strength) -> Hidden:
    """Add a step of the same length at every token: contrastive activation addition (arXiv 2312.06681).

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Length of the step, in the unit of the activations; 0 changes nothing.
    """
    return (hidden.float() + strength * direction.float()).to(hidden.dtype)


def add_keep_norm(hidden: Hidden, direction: Direction, strength: Strength, typical: Norm = None) -> Hidden:
    """Add along the direction, then rescale each state to the norm it had.

    Eq. 9-10 of Safety Arithmetic (arXiv 2406.11801): h + α·v, rescaled to ‖h‖. The paper does not
    state the length of v; here α is a fraction of the typical norm t at the layer, or of ‖h‖, so that one
    number means the same at every layer. Written as x' = (x + a‖x‖u) / √(1 + 2ac + a²) with c = cos(x, u) and
    a = α t / ‖x‖: one norm, one product. A state parallel to the direction is unchanged.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: α above; negative steps lead away from the safe side.
        typical: t above; without one, a = α.
    """
    return _step(hidden, direction, lambda cosine: strength, typical)


def add_keep_norm_adaptive(hidden: Hidden, direction: Direction, strength: Strength, typical: Norm = None) -> Hidden:
    """The step of the authors' code: longer where the state points to the unsafe side.

    a = strength · (1 + max(0, cos(x, −u))) (declare-lab/safety-arithmetic at 404fbd5, where the
    strength is a further 0.1 times the paper's α, and x is the output of the MLP). Otherwise as
    `add_keep_norm`.

    Args:
        hidden: States, any leading shape.
        direction: Unit vector.
        strength: Step at states orthogonal to the direction; up to twice that at opposite ones, of which 0.5 and more
            would leave nothing.
        typical: As of `add_keep_norm`.
    """
    return _step(hidden, direction, lambda cosine: strength * (1 + torch.relu(-cosine)), typical)


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
    u = d / norm_of(d, dim=None).clamp(min=torch.finfo(torch.float32).tiny)
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


def _step(hidden: Tensor, direction: Tensor, length: Callable[[Tensor], Strength], typical: Norm = None) -> Tensor:
    x, u = hidden.float(), direction.float()
    norm = norm_of(x, keepdim=True)
    divisor = norm.clamp(min=torch.finfo(torch.float32).tiny)
    cosine = (x * u).sum(-1, keepdim=True) / divisor
    if typical is not None:
        moved = x + length(cosine) * typical * u
        return (moved * (norm / norm_of(moved, keepdim=True).clamp(min=1e-12))).to(hidden.dtype)
    a = length(cosine)
    scale = (1 + 2 * a * cosine + a * a).clamp(min=1e-12).sqrt()  # rounding must not divide rounding
    return ((x + a * norm * u) / scale).to(hidden.dtype)


@dataclass(frozen=True)
class Intervention:
    """A way to act, with what its strength means.

    Attributes:
        change: `(hidden, direction, strength) -> hidden`, with `typical` behind if it is relative.
        unit: Of the strength, for people.
        low: Smallest strength that makes sense, exclusive unless `closed`.
        high: Largest one.
        closed: Whether the bounds themselves are allowed.
        neutral: Whether strength 0 changes nothing.
        relative: Whether the strength is a fraction of a norm, of the state's own or of the typical one.
        full: The strength at which all is done that there is to do, where there is one.
        sized: Whether what takes the place of a unit direction has a length of its own.
        mapped: Whether a matrix takes its place.
    """

    change: Callable[..., Tensor]
    unit: str
    low: float = -math.inf
    high: float = math.inf
    closed: bool = False
    neutral: bool = True
    relative: bool = False
    full: float | None = None
    sized: bool = False
    mapped: bool = False

    def __call__(self, hidden: Tensor, direction: Tensor, strength: Strength, typical: Norm = None) -> Tensor:
        """Return the moved states."""
        return self.change(hidden, direction, strength, *([typical] if self.relative else []))

    def shape(self, d_model: int) -> tuple[int, ...]:
        """Return the shape of a direction, or of what takes its place."""
        return (d_model, d_model) if self.mapped else (d_model,)

    def unit_of(self, unit: str) -> str:
        """Say what a strength means where fractions are of `unit`: `typical` norms, or each `state`'s own."""
        return TYPICAL if self.relative and unit == "typical" else self.unit

    def allows(self, strength: float) -> bool:
        """Say whether a strength lies within the bounds; NaN does not."""
        inside = self.low < strength < self.high
        return inside or (self.closed and strength in (self.low, self.high))


FRACTION = "fraction of the norm of the state it is added to"
TYPICAL = "fraction of the typical norm of a state at the layer"
LENGTH = "length, in the unit of the activations"
REMOVED = "fraction of the component that is removed"
WAY = "fraction of the way"
TIMES = "factor of the mapped state"

INTERVENTIONS: dict[str, Intervention] = {
    "add": Intervention(add, FRACTION, -1, 1, relative=True),
    "add_absolute": Intervention(add_absolute, LENGTH),
    "add_keep_norm": Intervention(add_keep_norm, FRACTION, -1, 1, relative=True),
    "add_keep_norm_adaptive": Intervention(add_keep_norm_adaptive, FRACTION, -1, 0.5, relative=True),
    "ablate": Intervention(ablate, REMOVED, 0, 1, closed=True, full=1.0),
    "match": Intervention(match, WAY, 0, 1, closed=True, full=1.0, sized=True),
    "add_mapped": Intervention(add_mapped, TIMES, full=1.0, sized=True, mapped=True),
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

    All are buffers, made once: no copy, no conversion and no synchronisation while steering.

    Args:
        intervention: A name in `INTERVENTIONS`.
        direction: Unit vector, or the matrix of `add_mapped`.
        strength: In the intervention's unit.
        device: Of the module whose output is changed.
        typical: Typical norm of a state there, of which the strength is a fraction; if not set, each state's own norm.
        limit: Norm beyond which a state is left as it is, bit for bit: attention sinks, whose norm is many times that
            of others (massive activations, arXiv 2402.17762); no state is, if not set.
    """

    direction: Tensor
    strength: Tensor
    typical: Tensor | None
    limit: Tensor | None

    def __init__(
        self,
        intervention: str,
        direction: Direction | Mapping,
        strength: float,
        device: torch.device,
        typical: float | None = None,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.intervention = INTERVENTIONS[intervention]
        self.register_buffer("direction", direction.detach().to(device, torch.float32), persistent=False)
        for name, number in (("strength", strength), ("typical", typical), ("limit", limit)):
            value = None if number is None else torch.tensor(number, dtype=torch.float32, device=device)
            self.register_buffer(name, value, persistent=False)

    def forward(self, hidden: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the moved states.

        Args:
            hidden: States, (..., d_model).
            weights: Factors of the strength, of a shape that fits `hidden`; 1 if not set.
        """
        strength = self.strength if weights is None else self.strength * weights
        changed = self.intervention(hidden, self.direction, strength, self.typical)
        if self.limit is None:
            return changed
        return torch.where(norm_of(hidden.float(), keepdim=True) > self.limit, hidden, changed)
