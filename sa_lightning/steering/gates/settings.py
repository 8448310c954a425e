"""What a gate is to find, how it is fitted, and what is done at its scores, as it is written down."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from sa_lightning.errors import DataError, SettingError
from sa_lightning.ranges import check_fields
from sa_lightning.schema import check_types
from sa_lightning.steering.gates.linear import check_recall
from sa_lightning.steering.gates.policy import Band, Policy
from sa_lightning.steering.gates.table import GATES
from sa_lightning.steering.intervention import check_strength, times

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal["always", *GATES]
SIDES = ("positive", "negative", "exempt")


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
        positive: Kinds of prompts that the gate is to find.
        negative: Kinds that it tells them from.
        exempt: Kinds that are told from both by a discriminant of their own first, and left as they are.
        join: `any` gives each of the kinds in `positive` a gate of its own, told from `negative`, with a threshold of
            its own; a prompt is positive where one of them says so, with `all` where all do (OR, AND of CAST's
            conditions). The score is then how far the gates are above their thresholds, of the least one with `all`, of
            the largest with `any`. If not set, one gate finds all kinds together.
        layers: Whose states are read; if not set, those from a third of the depth on (SCANS: middle and latter ones),
            of which `condition` takes the one that tells best.
        append: With `transition`, the word.
        threshold: From this score on a prompt counts as positive. If not set, every second prompt, or group, is held
            out, and the threshold is the highest that `recall` of the positive ones among them reach, or lower where
            that costs no further false alarm.
        recall: Share of positive prompts that are to be found, before any are exempted. Of those in `exempt`, at least
            as many are exempted.
        positive_factor: Factor of the strength at positive prompts. With directions from harmful to harmless questions,
            the strength of SCANS is negative: harmful prompts are pushed towards refusal.
        negative_factor: Factor at the others; 0 leaves them as they are, bit for bit.
        dead_zone: How far below the threshold a score has to lie for the factor `negative_factor`; nothing is done
            between.
        ramp: Over so wide a span of scores below the threshold the factor goes evenly from `negative_factor` to
            `positive_factor`, as in AdaSteer (arXiv 2504.09466).
        whole_prompt: Steer all tokens of a prompt, which takes a second prefill, in place of the last and what follows.
    """

    kind: Kind = "always"
    prompts: str | None = None
    per_kind: int = 64
    positive: Sequence[str] = ("harmful", "wrapped")
    negative: Sequence[str] = ("harmless", "borderline", "contrast")
    exempt: Sequence[str] = ()
    join: Literal["any", "all"] | None = None
    layers: list[int] | None = None
    append: str = "Sure"
    threshold: float | None = None
    recall: float = 0.95
    positive_factor: float = 1.0
    negative_factor: float = -1.0
    dead_zone: float = 0.0
    ramp: float = 0.0
    whole_prompt: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range, and settings that contradict each other.

        Raises:
            SettingError: With the value and what to write.
        """
        _check_kind(self.kind)
        for name in SIDES:  # a parser makes lists of them
            object.__setattr__(self, name, tuple(getattr(self, name)))
        given = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        if self.kind == "always" and given:
            raise SettingError(
                f"`gate.{given[0]}` is {getattr(self, given[0])!r}, but `gate.kind` is always.\n"
                "Without a gate every prompt is steered alike.\nGive `gate.kind`, or leave the others out."
            )
        check_fields(self, "gate")
        kind = GATES.get(self.kind)
        if kind is not None and kind.COSINE and self.threshold is not None and abs(self.threshold) > 1:
            raise SettingError(
                f"`gate.threshold` is {self.threshold}, but the scores of `{self.kind}` are cosines, in [-1, 1].\n"
                "All prompts, or none, would be found.\n"
                "SCANS takes 0.75; leave it out to have it set on held-out prompts."
            )
        if self.dead_zone and self.ramp:
            raise SettingError(
                f"`gate.dead_zone` is {self.dead_zone} and `gate.ramp` is {self.ramp}.\n"
                "Below the threshold there is either nothing done or more and more.\nLeave one of the two out."
            )
        if self.appends and not self.append.strip():
            raise SettingError(
                "`gate.append` is empty, but a transition is what an appended word changes.\n"
                "Without it every prompt would look alike.\nSCANS appends `Sure`."
            )
        if self.join is not None and (len(self.positive) < 2 or self.exempt):
            raise SettingError(
                f"`gate.join` is {self.join}, with `positive` {list(self.positive)} and `exempt` {list(self.exempt)}.\n"
                "Each kind in `positive` gets a gate of its own, and these are joined.\n"
                "Give two kinds or more and no `exempt`, or leave `join` out."
            )
        kinds = [kind for side in SIDES for kind in dict.fromkeys(getattr(self, side))]
        if len(kinds) > len(set(kinds)) or not self.positive or not self.negative:
            raise SettingError(
                f"`gate.positive` is {list(self.positive)}, `negative` {list(self.negative)}, `exempt` "
                f"{list(self.exempt)}.\n"
                "A gate tells kinds from others, so each has to be in one of them, and the first two have some.\n"
                "Mend the lists, or leave them out."
            )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "GateSettings":
        """Return the settings that a record holds among other things.

        Raises:
            SettingError: If this version knows no such gate, or a value is out of range.
            TypeError: If a value is of another type.
        """
        values = {item.name: record[item.name] for item in fields(cls) if item.name in record}
        _check_kind(values.get("kind", "always"))
        check_types(cls, values)
        return cls(**values)

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The kinds of prompts of each side."""
        return {side: tuple(getattr(self, side)) for side in SIDES}

    @property
    def appends(self) -> bool:
        """Whether the gate reads the states behind an appended word."""
        return self.kind in GATES and "appended" in GATES[self.kind].READS

    @property
    def averages(self) -> bool:
        """Whether it reads the mean over the prompt."""
        return self.kind in GATES and "mean" in GATES[self.kind].READS

    @property
    def factors(self) -> tuple[float, ...]:
        """By what a strength is multiplied, prompt by prompt; 1 alone without a gate."""
        return (1.0,) if self.kind == "always" else (self.positive_factor, self.negative_factor)

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
                    "Set `gate.positive_factor` and `gate.negative_factor` to factors that it can take: 0 leaves "
                    "prompts as they are."
                ) from error

    def check_held(self, *sides: Sequence[bool]) -> None:
        """Refuse prompts that are too few to set a threshold on; a given threshold needs none.

        Args:
            sides: Which prompts are held out: of the positive ones, of the negative ones, and of those that are exempt.

        Raises:
            DataError: If fewer than two of a class are fitted on, or held out.
            SettingError: If so few held-out prompts cannot show such a recall.
        """
        counts = [(len(side), sum(side)) for side in sides]
        if self.threshold is None and any(not 2 <= held <= count - 2 for count, held in counts):
            raise DataError(
                f"A gate is calibrated on {' and '.join(str(count) for count, _ in counts)} prompts of its classes, of "
                f"which {' and '.join(str(held) for _, held in counts)} are held out.\n"
                "Of each class, two at least are fitted on and two held out; variants of one another, by group or "
                "text, are so together, also those of different kinds.\nGive more prompts, or a `gate.threshold`."
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
        edge, low, high = threshold - (self.dead_zone or self.ramp), self.negative_factor, self.positive_factor
        between = (Band(edge, threshold, low, high),) if self.ramp else ()
        return Policy((Band(-math.inf, edge, low), *between, Band(threshold, math.inf, high)))


def _check_kind(kind: Any) -> None:
    if kind != "always" and not (isinstance(kind, str) and kind in GATES):
        raise SettingError(
            f"`gate.kind` is {kind!r}, but there are always, {', '.join(GATES)}.\n"
            "A gate is fitted as its kind says.\nChoose one of these."
        )
