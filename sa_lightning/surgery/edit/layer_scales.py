"""Layer scales under a budget: how far each layer steps, for the most good at a bounded damage."""

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sa_lightning.errors import NothingToDoError, SettingError, StepTooLargeError
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import ModelWeights
from sa_lightning.surgery.edit.in_memory import check_holds, form, swap
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.scope import group_of

__all__ = ["Shift", "find_layer_scales"]

CLOSE = 0.99  # of the budget is near enough
TRIALS = 40  # at most, to come near the budget
ROUNDS = 4  # of improvement, at most
NUDGE = 1.25  # what a factor is multiplied by, to see what its layer does
MOST = 4.0  # a factor grows no further in one round
BETTER = 1.002  # less gain than this is none


@runtime_checkable
class Shift(Protocol):
    """What has become of the model's answers, as `AnswerShift` measures it."""

    def damage(self) -> float:
        """Of harmless answers; grows with the step."""
        ...

    def benefit(self) -> float:
        """Of unsafe answers; the more the better."""
        ...


class Point(NamedTuple):
    """Factors by layer, with damage and benefit as measured there."""

    scales: dict[str, float]
    damage: float
    benefit: float


def find_layer_scales(
    plan: EditPlan, weights: ModelWeights, shift: Shift, budget: float, progress: Progress | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Choose a factor of `scale` for every layer, so that the edit does the most good within a budget of damage.

    The search begins with one factor for all layers, such that the damage is within the budget, and at
    least 99 % of it. Then, in rounds: each layer's factor is raised by a quarter, with all others in place, to see what
    damage ΔD and good ΔB it adds; at the best factors ΔB/ΔD is the same for all. So each factor is multiplied by its
    layer's ΔB/ΔD over that of all together (0 where there is no good, 4 at most), and all by one number, until the
    budget is met again. A round that does less good is tried again half as far, and a quarter; if that does not help,
    the search ends. Where damage is quadratic, good is linear, and layers do not act on one another, the first round
    is the exact answer, sₗ ∝ gₗ / aₗ. Layers do act on one another: factors found from each layer's edit alone did
    less good on the tiny world than one factor for all.

    Every number is measured on the model, which is given back bit for bit each time.

    Args:
        plan: The edit; its own `layer_scales` are not looked at.
        weights: Of the model that `shift` measures.
        shift: Measures the model as it is.
        budget: Most damage, in its unit; positive.
        progress: Told how far it has come.

    Returns:
        Factors by layer, from 0 (as text), and `other`; and what was measured, for the report.

    Raises:
        NothingToDoError: If the edit does no good.
        SettingError: If no step does as much damage as the budget allows.
    """
    check_holds(plan, weights)
    groups = {group_of(name, "layer") for name in plan.names}
    layers = sorted(groups, key=lambda layer: (not layer.isdigit(), layer.zfill(9)))

    def measured(scales: Mapping[str, float], limits: tuple[float, float] = (0.0, math.inf)) -> Point:
        # Rounded before they are measured: what is recorded is what was measured.
        rounded = {layer: float(f"{scales[layer]:.6g}") for layer in layers}
        try:
            with stepped(plan, weights, rounded):
                damage = shift.damage()
                wanted = limits[0] <= damage <= limits[1]
                return Point(rounded, damage, shift.benefit() if wanted else -math.inf)
        except StepTooLargeError:
            return Point(rounded, math.inf, -math.inf)

    def say(done: int) -> None:
        if progress:
            progress("scaling layers", done, ROUNDS + 1)

    say(0)
    uniform = best = _within(dict.fromkeys(layers, 1.0), measured, budget)
    rounds = 0
    for rounds in range(1, ROUNDS + 1):
        say(rounds)
        factors = _factors(best, [measured({**best.scales, layer: NUDGE * best.scales[layer]}) for layer in layers])
        for share in (1.0, 0.5, 0.25):
            moved = {layer: best.scales[layer] * (1 + share * (factors[layer] - 1)) for layer in layers}
            tried = _within(moved, measured, budget) if any(moved.values()) else best
            if tried.benefit > best.benefit + (BETTER - 1) * abs(best.benefit):
                best = tried
                break
        else:
            break
    say(ROUNDS + 1)
    if best.benefit <= 0:
        raise NothingToDoError(
            f"Within `kl_budget` {budget:g}, no edit found makes unsafe answers less likely: it changes their loss by "
            f"{best.benefit:.3g} nats a token.\nSuch an edit costs and does no good.\nDoes the delta point to harm?"
        )
    record = {
        "kl_budget": budget,
        "kl": best.damage,
        "benefit": best.benefit,
        "rounds": rounds,
        "one factor for all": {"factor": uniform.scales[layers[0]], "kl": uniform.damage, "benefit": uniform.benefit},
    }
    return best.scales, record


@contextmanager
def stepped(plan: EditPlan, weights: ModelWeights, scales: Mapping[str, float]) -> Generator[None, None, None]:
    """Edit a model by these factors inside the block; afterwards it is as before, bit for bit."""
    scaled = plan.scaled(scales)
    names = [name for name in plan.names if scaled.settings.scale_in(group_of(name, "layer"))]
    stash = form(scaled, names, weights)
    swap(weights, stash)
    try:
        yield
    finally:
        swap(weights, stash)


def _factors(at: Point, nudged: list[Point]) -> dict[str, float]:
    """By how much each layer should step further, from what a nudge of each adds."""
    gains = {layer: max(0.0, point.benefit - at.benefit) for layer, point in zip(at.scales, nudged, strict=True)}
    costs = {layer: max(0.0, point.damage - at.damage) for layer, point in zip(at.scales, nudged, strict=True)}
    total, spent = sum(gains.values()), sum(costs.values())
    if not total or not math.isfinite(spent):
        return dict.fromkeys(at.scales, 1.0)
    return {
        layer: 0.0 if not gain else min(MOST, gain * spent / (costs[layer] * total) if costs[layer] else MOST)
        for layer, gain in gains.items()
    }


def _within(shape: Mapping[str, float], measured: Callable[..., Point], budget: float) -> Point:
    """The multiple of some factors whose damage is within the budget, near enough: a bracket, then false position.

    Between what is too little and too much, damage is taken for a power of the step; a tenth of the bracket, on a log
    scale, is the least that any trial takes off.
    """
    low, high, value = 0.0, math.inf, 1.0
    too_much, found = math.inf, None
    aim = (1 + CLOSE) / 2 * budget
    for _ in range(TRIALS):
        point = measured({layer: value * scale for layer, scale in shape.items()}, (CLOSE * budget, budget))
        if point.damage > budget:
            high, too_much = value, point.damage
        elif point.damage >= CLOSE * budget:
            return point
        else:
            low, found = value, point
        if found is None or math.isinf(high):
            quadratic = math.sqrt(aim / point.damage) if point.damage else 4.0
            value *= min(4.0, max(0.25, quadratic))
        else:
            little = max(found.damage, budget * 1e-9)
            share = math.log(aim / little) / math.log(too_much / little) if math.isfinite(too_much) else 0.5
            value = low * (high / low) ** min(0.9, max(0.1, share))
    if found is None:
        raise NothingToDoError(
            f"No step is within `kl_budget` {budget:g}: {high:g} times `scale` is still too far.\n"
            "The edit would change nothing.\nGive a larger budget."
        )
    if math.isinf(high):
        raise SettingError(
            f"`kl_budget` is {budget:g} nats, but {low:g} times `scale` changes harmless answers by {found.damage:g} "
            "only.\nNothing bounds the edit then.\nGive a smaller budget."
        )
    return measured(found.scales)  # where damage jumps, a little less than the budget
