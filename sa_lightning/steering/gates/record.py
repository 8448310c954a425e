"""What became of prompts at a fitted gate, as artifacts keep it and reports show it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sa_lightning.files import Json
from sa_lightning.schema import check_types

Count = tuple[int, int]  # how many counted as positive, of how many


@dataclass(frozen=True)
class Separation:
    """How a score with a threshold tells two classes of prompts apart.

    Attributes:
        threshold: From this score on, inclusive, a prompt counts as positive.
        auroc: Of the scores; who has no score is behind all others.
        positive: Of the positive prompts, how many counted as positive.
        negative: Of the negative ones, how many did.
        scores: Of both classes, by these names; who is exempt has none.
    """

    threshold: float
    auroc: float = 0.5
    positive: Count = (0, 0)
    negative: Count = (0, 0)
    scores: dict[str, list[float]] = field(default_factory=dict[str, list[float]])


@dataclass(frozen=True)
class ExemptRecord(Separation):
    """The discriminant that looks first: `positive` are the exempt prompts, `negative` all others.

    Attributes:
        bias: Of the discriminant.
        exempted: Of the prompts that are positive and negative to the gate itself, how many are exempted.
        steered: Of the exempt prompts, how many are steered nonetheless.
    """

    bias: float = 0.0
    exempted: dict[str, Count] = field(default_factory=dict[str, Count])
    steered: Count = (0, 0)


@dataclass(frozen=True)
class GateRecord(Separation):
    """A gate as it was fitted on the weights of one set, less its vectors.

    Attributes:
        numbers: Of the gate, as `FittableGate.kept` has them.
        held_out: How many prompts the counts are over that the gate was not fitted on; 0 if on the very ones.
        layer_auroc: `layers`, and the `auroc` of a gate of each alone.
        exempt: Of the discriminant that looks first, where there is one; who is exempted does not count as positive.
        joined: Where several gates are one, the record of each, by the kind that it finds.
        layers: Of one that is joined: those that it reads.
    """

    numbers: dict[str, float] = field(default_factory=dict[str, float])
    held_out: int = 0
    layer_auroc: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    exempt: ExemptRecord | None = None
    joined: dict[str, "GateRecord"] = field(default_factory=dict[str, "GateRecord"])
    layers: Sequence[int] = ()

    def as_dict(self) -> Json:
        """Return plain JSON values; what is not there is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {}, ())}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "GateRecord":
        """Return what `as_dict` wrote; keys that nobody knows are left out.

        Raises:
            TypeError: If a value is of another type.
        """
        values = _known(cls, found)
        values["joined"] = {kind: cls.from_dict(one) for kind, one in values.get("joined", {}).items()}
        if values.get("exempt"):
            first = _known(ExemptRecord, values["exempt"])
            check_types(ExemptRecord, first)
            values["exempt"] = ExemptRecord(**first)
        check_types(cls, values)
        return cls(**values)


def _known(kind: type[Separation], found: Mapping[str, Any]) -> Json:
    names = [item.name for item in fields(kind)]
    values = {name: found[name] for name in names if name in found}
    counts: Json = {name: tuple(values[name]) for name in ("positive", "negative", "steered") if name in values}
    if "exempted" in values:
        counts["exempted"] = {side: tuple(count) for side, count in values["exempted"].items()}
    return values | counts
