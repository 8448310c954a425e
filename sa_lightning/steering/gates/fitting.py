"""A gate fitted on prompts to be found and on others: what it reads, its threshold, what it makes of unseen ones."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.errors import DataError
from sa_lightning.steering.directions.separability import auroc
from sa_lightning.steering.gates.combined import AlwaysGate, JoinedGate, SparingGate
from sa_lightning.steering.gates.condition import ConditionGate
from sa_lightning.steering.gates.gate import Gate, Reading
from sa_lightning.steering.gates.linear import LinearGate, fit_linear_gate, threshold_between
from sa_lightning.steering.gates.policy import Band, Policy
from sa_lightning.steering.gates.settings import GateSettings
from sa_lightning.steering.gates.transition import TransitionGate, transition_reference


class Anchors(NamedTuple):
    """States of prompts of one class.

    Attributes:
        end: At the last token.
        held: Which of them are held out where a threshold is set: variants of one another on the same side.
        appended: At the last token of the appended word.
        mean: Means over the prompt.
    """

    end: Float[Tensor, "prompts layers d_model"]
    held: Bool[Tensor, " prompts"]
    appended: Float[Tensor, "prompts layers d_model"] | None = None
    mean: Float[Tensor, "prompts layers d_model"] | None = None

    def part(self, rows: Bool[Tensor, " prompts"]) -> "Anchors":
        """Some of the prompts."""
        end, held, *others = self
        return Anchors(end[rows], held[rows], *(None if states is None else states[rows] for states in others))

    def of(self, index: list[int]) -> "Anchors":
        """Some of the layers."""
        end, held, *others = self
        return Anchors(end[:, index], held, *(None if states is None else states[:, index] for states in others))

    def reading(self, layers: Sequence[int]) -> Reading:
        """What a gate is given."""
        return Reading(tuple(layers), self.end, self.appended, self.mean)


@dataclass(frozen=True, eq=False)
class FittedGate:
    """A gate as an artifact keeps it.

    Attributes:
        vectors: One per layer: the reference transition, the condition, or the weights of the discriminant; with
            `spares`, that above the weights of the discriminant that spares, shape (2, d_model); of joined gates one
            above the other, shape (gates, d_model), zeros where one does not read.
        record: `threshold`, `bias`, `sign`, and what became of the prompts: `held_out`, `auroc`; `found` and `others`,
            both [how many counted as found, of how many]; their `scores`; the AUROC of each layer alone. With `spares`,
            who is spared is not found, has no score, and is behind all others in the AUROC; `spares` has the same of
            the discriminant that spares, with all the rest as `others`, how many of what it is to spare are `steered`
            nonetheless, and how many of those to be found and of the others are `spared`. Of joined gates, `joined` has
            the record of each, with its `layers`.
    """

    vectors: dict[int, Tensor]
    record: dict[str, Any] = field(default_factory=dict)


def vector_shape(record: dict[str, Any], d_model: int) -> tuple[int, ...]:
    """Return the shape of a gate's vector at one layer, by its record: several where gates are one."""
    if "joined" in record:
        return (len(record["joined"]), d_model)
    return (2, d_model) if "spares" in record else (d_model,)


def fit_gate(
    settings: GateSettings, layers: list[int], found: Anchors, others: Anchors, spared: Anchors | None = None
) -> FittedGate:
    """Fit a gate, set its threshold where none is given, and say how it does.

    Without a given threshold, prompts that are not held out are fitted on: the threshold is set on those to be found
    among the held-out ones (`threshold_between`), and all of them are counted. With one, all prompts are fitted on,
    as SCANS does, and counted, which flatters the gate: `held_out` is then 0.

    Args:
        settings: Of the gate.
        layers: Which the states are of.
        found: Prompts to be found.
        others: Those they are told from.
        spared: Those that are told from both first.

    Raises:
        DataError: If there are too few prompts of a class.
        SettingError: If so few held-out prompts cannot show such a recall.
    """
    calibrated = settings.threshold is None
    sides = [found, others, *([spared] if spared is not None else [])]
    settings.check_held(*(side.held.tolist() for side in sides))
    fitted = [side.part(~side.held) if calibrated else side for side in sides]
    held = [side.part(side.held) if calibrated else side for side in sides]
    alone = _layer_auroc(settings, layers, *fitted[:2], *held[:2])
    gate, layers, record = _fitted(settings, layers, fitted[0], fitted[1])
    vectors, index = record.pop("vectors"), record.pop("index")
    record |= _calibrated(settings, gate, layers, *(side.of(index) for side in held[:2]))
    record["held_out"] = sum(len(side.held) for side in held[:2]) if calibrated else 0
    record["layer_auroc"] = alone
    if spared is not None:
        both = _joined(fitted[0], fitted[1])
        first = fit_linear_gate(fitted[2].of(index).end, both.of(index).end, layers)
        over, under = (side.of(index).reading(layers) for side in (held[2], _joined(held[0], held[1])))
        at = threshold_between(first(over).double().cpu(), first(under).double().cpu(), settings.recall)
        told: dict[str, Any] = {"threshold": at, "bias": first.bias}
        scores = {"found": held[2], "others": _joined(held[0], held[1])}
        told |= _counted(first, at, layers, *(side.of(index) for side in scores.values()))
        # What is counted is what is steered: who is spared is not found, whatever the gate says.
        whole = SparingGate(tuple(layers), gate, first, at)
        record |= _counted(whole, record["threshold"], layers, *(side.of(index) for side in held[:2]))
        told["spared"] = {
            name: [_reach(first, at, layers, side.of(index)), len(side.held)]
            for name, side in zip(("found", "others"), held[:2], strict=True)
        }
        told["steered"] = [_reach(whole, record["threshold"], layers, held[2].of(index)), len(held[2].held)]
        record["spares"] = told
        vectors = torch.stack([vectors, first.weight], dim=1)
    return FittedGate(dict(zip(layers, vectors, strict=True)), record)


def fit_joined(settings: GateSettings, layers: list[int], found: dict[str, Anchors], others: Anchors) -> FittedGate:
    """Fit a gate for each kind of prompts alone (`fit_gate`), and join them.

    Args:
        settings: With `join`.
        layers: Which the states are of.
        found: Prompts to be found, kind by kind.
        others: Those that each kind is told from.

    Raises:
        DataError: If there are too few prompts of a kind.
        SettingError: If so few held-out prompts cannot show such a recall.
    """
    alone = replace(settings, join=None)
    single = {kind: fit_gate(alone, layers, anchors, others) for kind, anchors in found.items()}
    joined = {kind: {**one.record, "layers": sorted(one.vectors)} for kind, one in single.items()}
    read = sorted({layer for one in single.values() for layer in one.vectors})
    nothing = torch.zeros_like(others.end[0, 0])
    vectors = {layer: torch.stack([one.vectors.get(layer, nothing) for one in single.values()]) for layer in read}
    fitted = FittedGate(vectors, {"threshold": 0.0, "bias": 0.0, "joined": joined})
    whole = _rebuilt_joined(settings, fitted)
    together = functools.reduce(_joined, found.values())
    sides = [side.part(side.held) if settings.threshold is None else side for side in (together, others)]
    fitted.record.update(_counted(whole, 0.0, layers, *sides))
    fitted.record["held_out"] = sum(len(side.held) for side in sides) if settings.threshold is None else 0
    return fitted


def rebuilt(settings: GateSettings, fitted: FittedGate) -> tuple[Gate, Policy]:
    """Return the gate and its policy, from what an artifact keeps."""
    if settings.kind == "always":
        return AlwaysGate(), Policy((Band(-math.inf, math.inf, 1.0),))
    layers, record = tuple(sorted(fitted.vectors)), fitted.record
    if "joined" in record:
        return _rebuilt_joined(settings, fitted), settings.policy(record["threshold"])
    vectors = torch.stack([fitted.vectors[layer] for layer in layers])
    own = vectors[:, 0] if "spares" in record else vectors
    gate: Gate
    if settings.kind == "transition":
        gate = TransitionGate(layers, own)
    elif settings.kind == "condition":
        gate = ConditionGate(layers, own, record["sign"])
    else:
        gate = LinearGate(layers, own, record["bias"])
    if "spares" in record:
        first = LinearGate(layers, vectors[:, 1], record["spares"]["bias"])
        gate = SparingGate(layers, gate, first, record["spares"]["threshold"])
    return gate, settings.policy(record["threshold"])


def _rebuilt_joined(settings: GateSettings, fitted: FittedGate) -> Gate:
    told = list(fitted.record["joined"].values())
    alone = replace(settings, join=None)
    gates = [
        rebuilt(alone, FittedGate({layer: fitted.vectors[layer][number] for layer in one["layers"]}, one))[0]
        for number, one in enumerate(told)
    ]
    thresholds = tuple(one["threshold"] for one in told)
    return JoinedGate(tuple(sorted(fitted.vectors)), tuple(gates), thresholds, settings.join == "all")


def _fitted(
    settings: GateSettings, layers: list[int], found: Anchors, others: Anchors
) -> tuple[Gate, list[int], dict[str, Any]]:
    """A gate, the layers that it reads, and what is kept of it."""
    everything = list(range(len(layers)))
    if settings.kind == "transition":
        assert found.appended is not None, "states behind the word are read where a transition is asked for"
        vectors = transition_reference(found.end, found.appended).float()
        return TransitionGate(tuple(layers), vectors), layers, {"bias": 0.0, "vectors": vectors, "index": everything}
    if settings.kind == "condition":
        assert found.mean is not None, "means are read where a condition is asked for"
        assert others.mean is not None, "of both"
        differences = (found.mean.double().mean(0) - others.mean.double().mean(0)).float()
        best: tuple[float, int, float] = (-1.0, 0, 1.0)
        for i in everything:
            gate = ConditionGate((layers[i],), differences[i : i + 1])
            one, two = (gate(side.of([i]).reading([layers[i]])).cpu() for side in (found, others))
            area = float(auroc(one[:, None], two[:, None])[0])
            best = max(best, (max(area, 1 - area), -i, 1.0 if area >= 0.5 else -1.0))
        i, sign = -best[1], best[2]
        vectors = differences[i : i + 1]
        gate = ConditionGate((layers[i],), vectors, sign)
        return gate, [layers[i]], {"bias": 0.0, "sign": sign, "vectors": vectors, "index": [i]}
    linear = fit_linear_gate(found.end, others.end, layers)
    return linear, layers, {"bias": linear.bias, "vectors": linear.weight, "index": everything}


def _calibrated(
    settings: GateSettings, gate: Gate, layers: list[int], found: Anchors, others: Anchors
) -> dict[str, Any]:
    at = settings.threshold
    if at is None:
        one, two = (gate(side.reading(layers)).double().cpu() for side in (found, others))
        at = threshold_between(one, two, settings.recall)
    return {"threshold": at, **_counted(gate, at, layers, found, others)}


def _counted(gate: Gate, at: float, layers: list[int], found: Anchors, others: Anchors) -> dict[str, Any]:
    """How many of each class reach a threshold, and their scores; who has none is behind all others."""
    one, two = (gate(side.reading(layers)).double().cpu() for side in (found, others))
    ranked = (side.nan_to_num(nan=-math.inf)[:, None] for side in (one, two))
    return {
        "auroc": float(auroc(*ranked)[0]),
        "found": [int((one >= at).sum()), len(one)],
        "others": [int((two >= at).sum()), len(two)],
        "scores": {"found": _rounded(one), "others": _rounded(two)},
    }


def _reach(gate: Gate, at: float, layers: list[int], side: Anchors) -> int:
    return int((gate(side.reading(layers)) >= at).sum())


def _layer_auroc(
    settings: GateSettings, layers: list[int], found: Anchors, others: Anchors, unseen: Anchors, rest: Anchors
) -> dict[str, list[Any]]:
    """How well a gate of each layer alone, fitted on the first two, tells the others apart."""
    areas = []
    for i, layer in enumerate(layers):
        try:
            gate, _, _ = _fitted(settings, [layer], found.of([i]), others.of([i]))
            one, two = (gate(side.of([i]).reading([layer])).double().cpu() for side in (unseen, rest))
            areas.append(round(float(auroc(one[:, None], two[:, None])[0]), 6))
        except DataError:  # nothing differs at this layer
            areas.append(0.5)
    return {"layers": list(layers), "auroc": areas}


def _joined(one: Anchors, two: Anchors) -> Anchors:
    others = zip(one[2:], two[2:], strict=True)
    both = (None if a is None or b is None else torch.cat([a, b]) for a, b in others)
    return Anchors(torch.cat([one.end, two.end]), torch.cat([one.held, two.held]), *both)


def _rounded(scores: Tensor) -> list[float]:
    return [round(value, 6) for value in scores.tolist() if not math.isnan(value)]
