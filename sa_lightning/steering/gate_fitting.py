"""A gate fitted on harmful and other prompts: what it reads, its threshold, what it makes of unseen prompts."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering.gate import Band, Gate, Policy, Reading, TransitionGate
from sa_lightning.steering.linear_gate import LinearGate, fit_linear_gate, threshold_at_recall
from sa_lightning.steering.separability import auroc
from sa_lightning.steering.transition import transition_reference

Kind = Literal["always", "transition", "linear"]


@dataclass(frozen=True)
class GateSettings:
    """Which prompts are steered, and which way.

    Args:
        kind: `always` steers every prompt alike. `transition` is SCANS (arXiv 2408.11491): the cosine between what an
            appended word changes in a prompt's states and what it changes in harmful prompts'. `linear` is a two-class
            discriminant over the states at the last token of the prompt.
        prompts: JSON Lines with `prompt` and `kind` (harmful; harmless, borderline or contrast) to fit the gate on; if
            not set, the questions of demonstrations that have no answers.
        per_kind: Most prompts of a kind; SCANS takes 64.
        layers: Whose states are read; if not set, those from a third of the depth on (SCANS: middle and latter ones).
        append: With `transition`, the word.
        threshold: From this score on a prompt counts as harmful. If not set, every second prompt is held out, and the
            threshold is the highest that `recall` of the harmful ones among them reach.
        recall: Share of harmful prompts that are to be found.
        harmful: Factor of the strength at harmful prompts. With directions from harmful to harmless questions, the
            strength of SCANS is negative: harmful prompts are pushed towards refusal.
        harmless: Factor at the others; 0 leaves them as they are, bit for bit.
        dead_zone: How far below the threshold a score has to lie for the factor `harmless`; nothing is done between.
    """

    kind: Kind = "always"
    prompts: str | None = None
    per_kind: int = 64
    layers: list[int] | None = None
    append: str = "Sure"
    threshold: float | None = None
    recall: float = 0.95
    harmful: float = 1.0
    harmless: float = -1.0
    dead_zone: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            SettingError: With the value and what to write.
        """
        if self.per_kind < 2:
            raise SettingError(
                f"`gate.per_kind` is {self.per_kind}.\nA class needs two prompts at least.\nSCANS takes 64."
            )
        if not 0 < self.recall <= 1:
            raise SettingError(
                f"`gate.recall` is a share, in (0, 1], but is {self.recall}.\n"
                "It says how many harmful prompts are to be found.\nFor 95 percent, write 0.95."
            )
        if not self.dead_zone >= 0:
            raise SettingError(
                f"`gate.dead_zone` is {self.dead_zone}.\nIt is the width of a span of scores, at least 0.\nMend it."
            )
        if self.kind == "transition" and not self.append.strip():
            raise SettingError(
                "`gate.append` is empty, but a transition is what an appended word changes.\n"
                "Without it every prompt would look alike.\nSCANS appends `Sure`."
            )

    def read_layers(self, depth: int) -> list[int]:
        """Return the layers that are read, of a model with so many."""
        return sorted(set(self.layers)) if self.layers is not None else list(range(depth // 3, depth))

    def policy(self, threshold: float) -> Policy:
        """Return what is done at which score."""
        return Policy(
            (Band(-math.inf, threshold - self.dead_zone, self.harmless), Band(threshold, math.inf, self.harmful))
        )


class Anchors(NamedTuple):
    """States of prompts of one class at the last token, and behind the appended word."""

    end: Float[Tensor, "prompts layers d_model"]
    appended: Float[Tensor, "prompts layers d_model"]

    def part(self, rows: slice) -> "Anchors":
        """Some of the prompts."""
        return Anchors(self.end[rows], self.appended[rows])


@dataclass(frozen=True, eq=False)
class FittedGate:
    """A gate as an artifact keeps it.

    Attributes:
        vectors: One per layer: the reference transition, or the weights of the discriminant.
        record: `threshold`, `bias`, and what became of the prompts: `held_out`, `auroc`, `harmful` and `harmless`, both
            [how many counted as harmful, of how many].
    """

    vectors: dict[int, Tensor]
    record: dict[str, Any] = field(default_factory=dict)


def fit_gate(settings: GateSettings, layers: list[int], harmful: Anchors, others: Anchors) -> FittedGate:
    """Fit a gate, set its threshold where none is given, and say how it does.

    Without a given threshold, prompts of even number are fitted on, and those of odd number held out: the threshold is
    set on the harmful ones among them (`threshold_at_recall`), and all of them are counted. With one, all prompts are
    fitted on, as SCANS does, and counted, which flatters the gate: `held_out` is then 0.

    Raises:
        DataError: If there are too few prompts of a class.
        SettingError: If so few held-out prompts cannot show such a recall.
    """
    calibrated = settings.threshold is None
    if calibrated and min(len(harmful.end), len(others.end)) < 4:
        raise DataError(
            f"A gate is calibrated on {len(harmful.end)} harmful and {len(others.end)} other prompts.\n"
            "Half of them are fitted on, and half held out.\nGive more prompts, or a `gate.threshold`."
        )
    fitted, held = (slice(0, None, 2), slice(1, None, 2)) if calibrated else (slice(None), slice(None))
    if settings.kind == "transition":
        reference = transition_reference(*harmful.part(fitted))
        gate: Gate = TransitionGate(tuple(layers), reference.float())
        vectors, bias = reference.float(), 0.0
    else:
        gate = linear = fit_linear_gate(harmful.end[fitted], others.end[fitted], layers)
        vectors, bias = linear.weight, linear.bias
    found, spared = (gate(Reading(tuple(layers), *side.part(held))).double().cpu() for side in (harmful, others))
    threshold = threshold_at_recall(found, settings.recall) if settings.threshold is None else settings.threshold
    return FittedGate(
        dict(zip(layers, vectors, strict=True)),
        {
            "threshold": threshold,
            "bias": bias,
            "held_out": len(found) + len(spared) if calibrated else 0,
            "auroc": float(auroc(found[:, None], spared[:, None])[0]),
            "harmful": [int((found >= threshold).sum()), len(found)],
            "harmless": [int((spared >= threshold).sum()), len(spared)],
        },
    )


def rebuilt(settings: GateSettings, fitted: FittedGate) -> tuple[Gate, Policy]:
    """Return the gate and its policy, from what an artifact keeps."""
    layers = tuple(sorted(fitted.vectors))
    vectors = torch.stack([fitted.vectors[layer] for layer in layers])
    policy = settings.policy(fitted.record["threshold"])
    if settings.kind == "transition":
        return TransitionGate(layers, vectors), policy
    return LinearGate(layers, vectors, fitted.record["bias"]), policy
