"""A gate fitted on prompts to be found and on others: what it reads, its threshold, what it makes of unseen ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering.condition import ConditionGate
from sa_lightning.steering.gate import AlwaysGate, Band, Gate, Policy, Reading, SparingGate, TransitionGate
from sa_lightning.steering.intervention import check_strength, times
from sa_lightning.steering.linear_gate import LinearGate, check_recall, fit_linear_gate, threshold_between
from sa_lightning.steering.separability import auroc
from sa_lightning.steering.transition import transition_reference

Kind = Literal["always", "transition", "linear", "condition"]


@dataclass(frozen=True)
class GateSettings:
    """Which prompts are steered, and which way.

    Args:
        kind: `always` steers every prompt alike. `transition` is SCANS (arXiv 2408.11491): the cosine between what an
            appended word changes in a prompt's states and what it changes in those it is to find. `linear` is a
            two-class discriminant over the states at the last token of the prompt. `condition` is CAST (arXiv
            2409.05907): how much of a prompt's mean state lies along what tells the two classes apart, at one layer.
        prompts: JSON Lines with `prompt` and `kind`, and perhaps the `group` of prompts that are variants of one
            another. If not set, the demonstrations, where they are such a file or have questions alone.
        per_kind: Most prompts of a kind; SCANS takes 64.
        finds: Kinds of prompts that the gate is to find.
        against: Kinds that it tells them from.
        spares: Kinds that are told from both by a discriminant of their own first, and left as they are.
        layers: Whose states are read; if not set, those from a third of the depth on (SCANS: middle and latter ones),
            of which `condition` takes the one that tells best.
        append: With `transition`, the word.
        threshold: From this score on a prompt counts as found. If not set, every second prompt, or group, is held out,
            and the threshold is the highest that `recall` of those to be found among them reach, or lower where that
            costs no further false alarm.
        recall: Share of prompts that are to be found, before any are spared. Of those in `spares`, at least as many
            are spared.
        found: Factor of the strength at prompts that are found. With directions from harmful to harmless questions, the
            strength of SCANS is negative: harmful prompts are pushed towards refusal.
        others: Factor at the others; 0 leaves them as they are, bit for bit.
        dead_zone: How far below the threshold a score has to lie for the factor `others`; nothing is done between.
        ramp: Over so wide a span of scores below the threshold the factor goes evenly from `others` to `found`, as in
            AdaSteer (arXiv 2504.09466).
        whole_prompt: Steer all tokens of a prompt, which takes a second prefill, in place of the last and what follows.
    """

    kind: Kind = "always"
    prompts: str | None = None
    per_kind: int = 64
    finds: Sequence[str] = ("harmful", "wrapped")
    against: Sequence[str] = ("harmless", "borderline", "contrast")
    spares: Sequence[str] = ()
    layers: list[int] | None = None
    append: str = "Sure"
    threshold: float | None = None
    recall: float = 0.95
    found: float = 1.0
    others: float = -1.0
    dead_zone: float = 0.0
    ramp: float = 0.0
    whole_prompt: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            SettingError: With the value and what to write.
        """
        values: dict[str, tuple[Any, Any]] = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        lists = ("finds", "against", "spares")  # a tuple, or the list that a parser makes of it
        given = [n for n, (a, b) in values.items() if (list(a) != list(b) if n in lists else a != b)]
        if self.kind == "always" and given:
            raise SettingError(
                f"`gate.{given[0]}` is {getattr(self, given[0])!r}, but `gate.kind` is always.\n"
                "Without a gate every prompt is steered alike.\nGive `gate.kind`, or leave the others out."
            )
        if self.per_kind < 2:
            raise SettingError(
                f"`gate.per_kind` is {self.per_kind}.\nA class needs two prompts at least.\nSCANS takes 64."
            )
        if not 0 < self.recall <= 1:
            raise SettingError(
                f"`gate.recall` is a share, in (0, 1], but is {self.recall}.\n"
                "It says how many of the prompts to be found are found.\nFor 95 percent, write 0.95."
            )
        for name in ("dead_zone", "ramp"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(
                    f"`gate.{name}` is {getattr(self, name)}.\n"
                    "It is the width of a span of scores, finite and at least 0.\nMend it."
                )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise SettingError(
                f"`gate.threshold` is {self.threshold}.\nAll prompts, or none, would be found.\n"
                "Give a finite one, or none, and `gate.recall`."
            )
        if self.dead_zone and self.ramp:
            raise SettingError(
                f"`gate.dead_zone` is {self.dead_zone} and `gate.ramp` is {self.ramp}.\n"
                "Below the threshold there is either nothing done or more and more.\nLeave one of the two out."
            )
        if self.kind == "transition" and not self.append.strip():
            raise SettingError(
                "`gate.append` is empty, but a transition is what an appended word changes.\n"
                "Without it every prompt would look alike.\nSCANS appends `Sure`."
            )
        finds, against, spares = {*self.finds}, {*self.against}, {*self.spares}
        twice = finds & against | finds & spares | against & spares
        if twice or not self.finds or not self.against:
            raise SettingError(
                f"`gate.finds` is {list(self.finds)}, `against` {list(self.against)}, `spares` {list(self.spares)}.\n"
                "A gate tells kinds from others, so each has to be in one of them, and the first two have some.\n"
                "Mend the lists, or leave them out."
            )

    @property
    def factors(self) -> tuple[float, ...]:
        """By what a strength is multiplied, prompt by prompt; 1 alone without a gate."""
        return (1.0,) if self.kind == "always" else (self.found, self.others)

    def check(self, strength: float | dict[int, float], intervention: str) -> None:
        """Refuse factors that, times this strength, an intervention cannot take.

        Raises:
            SettingError: With the factor and what to change.
        """
        for factor in self.factors:
            try:
                check_strength(times(strength, factor), intervention)
            except SettingError as error:
                if factor == 1:
                    raise
                raise SettingError(
                    f"The gate weights the strength by {factor}, which `{intervention}` cannot take: "
                    f"{str(error).splitlines()[0]}\nIt could not be applied.\n"
                    "Set `gate.found` and `gate.others` to factors that it can take: 0 leaves prompts as they are."
                ) from error

    def check_held(self, *sides: Sequence[bool]) -> None:
        """Refuse prompts that are too few to set a threshold on; a given threshold needs none.

        Args:
            sides: Which prompts are held out: of those to be found, of the others, and of those that are spared.

        Raises:
            DataError: If fewer than two of a class are fitted on, or held out.
            SettingError: If so few held-out prompts cannot show such a recall.
        """
        counts = [(len(side), sum(side)) for side in sides]
        if self.threshold is None and any(not 2 <= held <= count - 2 for count, held in counts):
            raise DataError(
                f"A gate is calibrated on {' and '.join(str(count) for count, _ in counts)} prompts of its classes, of "
                f"which {' and '.join(str(held) for _, held in counts)} are held out.\n"
                "Of each class, two at least are fitted on and two held out.\n"
                "Give more prompts, or a `gate.threshold`."
            )
        if self.threshold is None:
            check_recall(counts[0][1], self.recall)
        for count, held in counts[2:]:
            check_recall(held if self.threshold is None else count, self.recall)

    def read_layers(self, depth: int) -> list[int]:
        """Return the layers that are read, of a model with so many."""
        return sorted(set(self.layers)) if self.layers is not None else list(range(depth // 3, depth))

    def policy(self, threshold: float) -> Policy:
        """Return what is done at which score."""
        edge = threshold - (self.dead_zone or self.ramp)
        between = (Band(edge, threshold, self.others, self.found),) if self.ramp else ()
        return Policy((Band(-math.inf, edge, self.others), *between, Band(threshold, math.inf, self.found)))


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
        return Anchors(*(None if states is None else states[rows] for states in self))  # type: ignore[arg-type]  # `end` and `held` are there

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
            `spares`, that above the weights of the discriminant that spares, shape (2, d_model).
        record: `threshold`, `bias`, `sign`, and what became of the prompts: `held_out`, `auroc`; `found` and `others`,
            both [how many counted as found, of how many], without those that are spared; their `scores`; the AUROC of
            each layer alone; and of what is spared the same in `spares`, with how many of it are `steered` nonetheless.
    """

    vectors: dict[int, Tensor]
    record: dict[str, Any] = field(default_factory=dict)


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
    gate, layers, record = _fitted(settings, layers, fitted[0], fitted[1])
    vectors, index = record.pop("vectors"), record.pop("index")
    record |= _calibrated(settings, gate, layers, *(side.of(index) for side in held[:2]))
    record["held_out"] = sum(len(side.held) for side in held[:2]) if calibrated else 0
    record["layer_auroc"] = _layer_auroc(settings, layers, *([side.of(index) for side in [*fitted[:2], *held[:2]]]))
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
        for name, side in zip(("found", "others"), held[:2], strict=True):
            record[name] = [_reach(whole, record["threshold"], layers, side.of(index)), len(side.held)]
        told["steered"] = [_reach(whole, record["threshold"], layers, held[2].of(index)), len(held[2].held)]
        record["spares"] = told
        vectors = torch.stack([vectors, first.weight], dim=1)
    return FittedGate(dict(zip(layers, vectors, strict=True)), record)


def rebuilt(settings: GateSettings, fitted: FittedGate) -> tuple[Gate, Policy]:
    """Return the gate and its policy, from what an artifact keeps."""
    if settings.kind == "always":
        return AlwaysGate(), Policy((Band(-math.inf, math.inf, 1.0),))
    layers, record = tuple(sorted(fitted.vectors)), fitted.record
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
    """How many of each class reach a threshold, and their scores."""
    one, two = (gate(side.reading(layers)).double().cpu() for side in (found, others))
    return {
        "auroc": float(auroc(one[:, None], two[:, None])[0]),
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
    both = (None if a is None or b is None else torch.cat([a, b]) for a, b in zip(one, two, strict=True))
    return Anchors(*both)  # type: ignore[arg-type]  # `end` and `held` are there


def _rounded(scores: Tensor) -> list[float]:
    return [round(value, 6) for value in scores.tolist()]
