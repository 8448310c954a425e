"""A gate fitted on positive prompts and on others: what it reads, its threshold, what it makes of unseen ones."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sa_lightning.errors import DataError
from sa_lightning.files import Json
from sa_lightning.steering.directions.separability import auroc
from sa_lightning.steering.gates.combined import ExemptingGate, JoinedGate
from sa_lightning.steering.gates.gate import Anchors, Gate
from sa_lightning.steering.gates.linear import LinearGate, fit_linear_gate, threshold_between
from sa_lightning.steering.gates.record import Count, ExemptRecord, GateRecord, Separation
from sa_lightning.steering.gates.settings import GateSettings
from sa_lightning.steering.gates.table import GATES
from sa_lightning.steering.typed import floats


class GateState(NamedTuple):
    """A gate as it was fitted on the weights of one set.

    Attributes:
        vectors: One per layer, float32: of the gate; with exempt prompts, that above the weights of the discriminant
            that looks first, shape (2, d_model); of joined gates one above the other, shape (gates, d_model), zeros
            where one does not read.
        record: All else, with what became of the prompts.
    """

    vectors: dict[int, Tensor]
    record: GateRecord

    def shape(self, d_model: int) -> tuple[int, ...]:
        """Return the shape of the vector at one layer, by the record."""
        if self.record.joined:
            return (len(self.record.joined), d_model)
        return (2, d_model) if self.record.exempt else (d_model,)

    def gate(self, settings: GateSettings) -> Gate:
        """Return the gate."""
        layers, record = tuple(sorted(self.vectors)), self.record
        if record.joined:
            gates = tuple(
                GateState({layer: self.vectors[layer][number] for layer in one.layers}, one).gate(settings)
                for number, one in enumerate(record.joined.values())
            )
            thresholds = tuple(one.threshold for one in record.joined.values())
            return JoinedGate(layers, gates, thresholds, settings.join == "all")
        vectors = torch.stack([self.vectors[layer] for layer in layers])
        own = GATES[settings.kind].restored(layers, vectors[:, 0] if record.exempt else vectors, record.numbers)
        if record.exempt is None:
            return own
        first = LinearGate(layers, vectors[:, 1], record.exempt.bias)
        return ExemptingGate(layers, own, first, record.exempt.threshold)


def fit_gate(
    settings: GateSettings,
    layers: Sequence[int],
    positive: Anchors,
    negative: Anchors,
    exempt: Anchors | None = None,
) -> GateState:
    """Fit a gate, set its threshold where none is given, and say how it does.

    Without a given threshold, prompts that are not held out are fitted on: the threshold is set on the positive ones
    among those that are (`threshold_between`), and all of them are counted. With one, all prompts are fitted on, as
    SCANS does, and counted, which flatters the gate: `held_out` is then 0.

    Args:
        settings: Of the gate.
        layers: Which the states are of.
        positive: Prompts to be found.
        negative: Those they are told from.
        exempt: Those that are told from both first.

    Raises:
        DataError: If there are too few prompts of a class.
        SettingError: If so few held-out prompts cannot show such a recall.
    """
    calibrated = settings.threshold is None
    sides = [positive, negative, *([exempt] if exempt is not None else [])]
    settings.check_held(*([bool(held) for held in side.held] for side in sides))
    fitted = [side.rows(~side.held) if calibrated else side for side in sides]
    held = [side.rows(side.held) if calibrated else side for side in sides]
    gate = GATES[settings.kind].fit(layers, fitted[0], fitted[1])
    vectors, numbers = gate.kept()
    index = [list(layers).index(layer) for layer in gate.layers]
    seen = [side.of(index) for side in held]
    at = settings.threshold
    if at is None:
        at = threshold_between(_scores(gate, seen[0]), _scores(gate, seen[1]), settings.recall)
    whole: Gate = gate
    first: ExemptRecord | None = None
    if exempt is not None:
        known = [side.of(index) for side in fitted]
        looks = fit_linear_gate(known[2].end, known[0].and_(known[1]).end, gate.layers)
        others = seen[0].and_(seen[1])
        least = threshold_between(_scores(looks, seen[2]), _scores(looks, others), settings.recall)
        # What is counted is what is steered: who is exempted is not positive, whatever the gate says.
        whole = ExemptingGate(gate.layers, gate, looks, least)
        first = ExemptRecord(
            **_shallow(_separation(looks, least, seen[2], others)),
            bias=looks.bias,
            exempted={side: _reach(looks, least, seen[i]) for i, side in enumerate(("positive", "negative"))},
            steered=_reach(whole, at, seen[2]),
        )
        vectors = torch.stack([vectors, looks.weight], dim=1)
    record = GateRecord(
        **_shallow(_separation(whole, at, seen[0], seen[1])),
        numbers=numbers,
        held_out=sum(len(side.held) for side in held[:2]) if calibrated else 0,
        layer_auroc=_layer_auroc(settings, layers, fitted, held),
        exempt=first,
    )
    return GateState(dict(zip(gate.layers, vectors, strict=True)), record)


def fit_joined(
    settings: GateSettings, layers: Sequence[int], positive: Mapping[str, Anchors], negative: Anchors
) -> GateState:
    """Fit a gate for each kind of prompts alone (`fit_gate`), and join them.

    Args:
        settings: With `join`.
        layers: Which the states are of.
        positive: Prompts to be found, kind by kind.
        negative: Those that each kind is told from.

    Raises:
        DataError: If there are too few prompts of a kind.
        SettingError: If so few held-out prompts cannot show such a recall.
    """
    alone = replace(settings, join=None)
    single = {kind: fit_gate(alone, layers, anchors, negative) for kind, anchors in positive.items()}
    joined = {kind: replace(one.record, layers=sorted(one.vectors)) for kind, one in single.items()}
    read = sorted({layer for one in single.values() for layer in one.vectors})
    nothing = torch.zeros_like(negative.end[0, 0])
    vectors = {layer: torch.stack([one.vectors.get(layer, nothing) for one in single.values()]) for layer in read}
    whole = GateState(vectors, GateRecord(0.0, joined=joined)).gate(settings)
    together = functools.reduce(Anchors.and_, positive.values())
    calibrated = settings.threshold is None
    index = [list(layers).index(layer) for layer in read]
    sides = [(side.rows(side.held) if calibrated else side).of(index) for side in (together, negative)]
    held_out = sum(len(side.held) for side in sides) if calibrated else 0
    record = GateRecord(**_shallow(_separation(whole, 0.0, *sides)), held_out=held_out, joined=joined)
    return GateState(vectors, record)


def _scores(gate: Gate, side: Anchors) -> Tensor:
    """Scores of prompts whose states are of the layers that the gate reads; float64, on the CPU."""
    return gate(side.reading(gate.layers)).double().cpu()


def _separation(gate: Gate, at: float, positive: Anchors, negative: Anchors) -> Separation:
    """How many of each class reach a threshold, and their scores; who has none is behind all others."""
    one, two = (_scores(gate, side) for side in (positive, negative))
    ranked = (side.nan_to_num(nan=-math.inf)[:, None] for side in (one, two))
    return Separation(
        threshold=at,
        auroc=float(auroc(*ranked)[0]),
        positive=(int((one >= at).sum()), len(one)),
        negative=(int((two >= at).sum()), len(two)),
        scores={"positive": _rounded(one), "negative": _rounded(two)},
    )


def _reach(gate: Gate, at: float, side: Anchors) -> Count:
    return int((gate(side.reading(gate.layers)) >= at).sum()), len(side.held)


def _layer_auroc(
    settings: GateSettings, layers: Sequence[int], fitted: Sequence[Anchors], held: Sequence[Anchors]
) -> dict[str, list[Any]]:
    """How well a gate of each layer alone, fitted on the first two classes, tells those that are held out apart."""
    areas: list[float] = []
    for i, layer in enumerate(layers):
        try:
            gate = GATES[settings.kind].fit([layer], fitted[0].of([i]), fitted[1].of([i]))
            one, two = (_scores(gate, side.of([i])) for side in held[:2])
            areas.append(round(float(auroc(one[:, None], two[:, None])[0]), 6))
        except DataError:  # nothing differs at this layer
            areas.append(0.5)
    return {"layers": list(layers), "auroc": areas}


def _shallow(found: Separation) -> Json:
    return {name: getattr(found, name) for name in Separation.__dataclass_fields__}


def _rounded(scores: Tensor) -> list[float]:
    return [round(value, 6) for value in floats(scores) if not math.isnan(value)]
