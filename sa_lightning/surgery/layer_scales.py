"""Layer scales under a budget: how far each layer steps, for the most good at a bounded damage."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from sa_lightning.errors import NothingToDoError, SettingError, StepTooLargeError
from sa_lightning.surgery.edit import EditPlan
from sa_lightning.surgery.edit_in_memory import check_holds, form, swap
from sa_lightning.surgery.scope import group_of
from sa_lightning.surgery.streaming import Progress
from sa_lightning.surgery.weights import ModelWeights

__all__ = ["Shift", "find_layer_scales"]

CLOSE = 0.98  # of the budget is near enough
FELT = 0.01  # of the budget: so much a probe changes at least, where it can
STEPS = 30  # trials at most, of all layers together
LOW, HIGH = 2.0**-20, 2.0**6  # probes are no shorter and no longer, in units of `scale`


@runtime_checkable
class Shift(Protocol):
    """What has become of the model's answers, as `AnswerShift` measures it."""

    def damage(self) -> float:
        """Of harmless answers: about quadratic in the step."""
        ...

    def benefit(self) -> float:
        """Of unsafe answers: about linear in the step."""
        ...


def find_layer_scales(
    plan: EditPlan, weights: ModelWeights, shift: Shift, budget: float, progress: Progress | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Choose a factor of `scale` for every layer, so that the edit does the most good within a budget of damage.

    Each layer is edited alone, by a probe that does between 1/100 of the budget and all of it. With damage aₗ sₗ² and
    good gₗ sₗ, as small steps do them, and layers that do not act on one another, the best under Σ aₗ sₗ² = budget is
    sₗ ∝ gₗ / aₗ; a layer that does no good stays as it is. Then all layers are edited together, and one multiplier of
    all sₗ is searched by bisection until the damage *as measured* is within the budget, and at least 98 % of it.

    The model is edited and given back bit for bit, some four times a layer.

    Args:
        plan: The edit; its own `layer_scales` are not looked at.
        weights: Of the model that `shift` measures.
        shift: Measures the model as it is.
        budget: Most damage, in its unit; positive.
        progress: Told how far it has come.

    Returns:
        Factors by layer, from 0 (as text), and `other`; and what was measured, for the report.

    Raises:
        NothingToDoError: If no layer does any good.
        SettingError: If no step does as much damage as the budget allows.
    """
    check_holds(plan, weights)
    groups = {group_of(name, "layer") for name in plan.names}
    layers = sorted(groups, key=lambda layer: (not layer.isdigit(), layer.zfill(9)))

    def measured(scales: Mapping[str, float]) -> tuple[float, float]:
        try:
            with stepped(plan, weights, {layer: scales.get(layer, 0.0) for layer in layers}):
                damage = shift.damage()
                return damage, shift.benefit() if damage <= budget else math.nan
        except StepTooLargeError:
            return math.inf, math.nan

    found: dict[str, dict[str, float]] = {}
    for number, layer in enumerate(layers):
        if progress:
            progress("probing layers", number, len(layers))
        found[layer] = _probe(lambda p, layer=layer: measured({layer: p}), budget)
    costs = {layer: max(at["damage"], budget * FELT**2) / (at["probe"] or 1) ** 2 for layer, at in found.items()}
    gains = {layer: max(0.0, at["benefit"]) / (at["probe"] or 1) for layer, at in found.items()}
    ratios = {layer: gains[layer] / costs[layer] for layer in layers}
    if not any(ratios.values()):
        raise NothingToDoError(
            f"No layer makes unsafe answers less likely within `kl_budget` {budget:g}; tried: {', '.join(layers)}.\n"
            "Every factor would be 0, and nothing would change.\nDoes the delta point to harm?"
        )

    def scales(multiplier: float) -> dict[str, float]:
        # Rounded before they are measured: what is recorded is what was measured.
        return {layer: float(f"{multiplier * ratio:.6g}") for layer, ratio in ratios.items()}

    start = math.sqrt(budget / sum(costs[layer] * ratios[layer] ** 2 for layer in layers))
    multiplier, damage, benefit = _largest(lambda value: measured(scales(value)), start, budget, progress)
    record = {"kl_budget": budget, "kl": damage, "benefit": benefit, "probes": found}
    return scales(multiplier), record


@contextmanager
def stepped(plan: EditPlan, weights: ModelWeights, scales: Mapping[str, float]) -> Iterator[None]:
    """Edit a model by these factors inside the block; afterwards it is as before, bit for bit."""
    scaled = plan.scaled(scales)
    names = [name for name in plan.names if scaled.settings.scale_in(group_of(name, "layer"))]
    stash = form(scaled, names, weights)
    swap(weights, stash)
    try:
        yield
    finally:
        swap(weights, stash)


def _probe(measured: Callable[[float], tuple[float, float]], budget: float) -> dict[str, float]:
    """Edit one layer alone: by a step that is felt, and within the budget."""
    probe, (damage, benefit) = 1.0, measured(1.0)
    while damage > budget and probe > LOW:
        probe /= 2
        damage, benefit = measured(probe)
    while damage < budget * FELT and probe < HIGH:
        longer = measured(2 * probe)
        if longer[0] > budget:
            break
        probe, (damage, benefit) = 2 * probe, longer
    if damage > budget:
        return {"probe": 0.0, "damage": 0.0, "benefit": 0.0}  # no step of it is small enough
    return {"probe": probe, "damage": damage, "benefit": benefit}


def _largest(
    measured: Callable[[float], tuple[float, float]], start: float, budget: float, progress: Progress | None
) -> tuple[float, float, float]:
    """The largest multiplier within the budget, near enough, with damage and good there."""
    low, high, at = 0.0, math.inf, (0.0, 0.0)
    value = start
    for trial in range(STEPS):
        if progress:
            progress("stepping within the budget", trial, STEPS)
        damage, benefit = measured(value)
        if damage > budget:
            high = value
        else:
            low, at = value, (damage, benefit)
            if damage >= CLOSE * budget:
                break
        value = 2 * value if math.isinf(high) else high / 2 if not low else math.sqrt(low * high)
    if math.isinf(high) and at[0] < CLOSE * budget:
        raise SettingError(
            f"`kl_budget` is {budget:g} nats, but steps of {low:g} times `scale` change harmless answers by {at[0]:g} "
            "only.\nNothing bounds the edit then.\nGive a smaller budget."
        )
    if not low:
        raise NothingToDoError(
            f"No step is within `kl_budget` {budget:g}: {high:g} times `scale` is still too far.\n"
            "The edit would change nothing.\nGive a larger budget."
        )
    return low, *at
