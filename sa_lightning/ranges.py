"""Which numbers a setting may have: one table for the command line, before a library is loaded, and for Python."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from sa_lightning.errors import SettingError

__all__ = ["RANGES", "Range", "check_fields", "check_numbers", "numbers", "range_of"]

MOST = 2**31 - 1  # of a count: libraries keep it in 32 bits
LAST_SEED = 2**32 - 1  # NumPy's, which Lightning seeds, too


class Range(NamedTuple):
    """Where a number has to lie; NaN and infinity lie nowhere.

    Attributes:
        low: Smallest value.
        high: Largest value.
        what: What is meant by the number, as the end of "It is …".
        above: Whether `low` itself is too small.
        below: Whether `high` itself is too large.
    """

    low: float
    high: float
    what: str
    above: bool = False
    below: bool = False

    def holds(self, value: Any) -> bool:
        """Whether this is a number within the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return self.low <= value <= self.high and not (
            (self.above and value == self.low) or (self.below and value == self.high)
        )

    def __str__(self) -> str:
        """Return the range as the end of "It must be …"."""
        bounds = ["finite"] if self.high == math.inf else []
        if self.low > -math.inf:
            bounds.append(f"above {self.low:g}" if self.above else f"at least {self.low:g}")
        if self.high not in (math.inf, MOST):
            high = f"{self.high:.0f}" if self.high == LAST_SEED else f"{self.high:g}"
            bounds.append(f"below {high}" if self.below else f"at most {high}")
        return " and ".join(bounds) if self.low > -math.inf else "a finite number"


def _count(what: str, low: int = 1, high: int = MOST) -> Range:
    return Range(low, high, what)


_SEED = Range(0, LAST_SEED, "the seed of all random draws")
_LAYER = Range(0, 9999, "a decoder block, counted from 0")
_FINITE = (-math.inf, math.inf)

#: Setting to range, by the end of its dotted name; of several ends, the longest.
RANGES: dict[str, Range] = {
    # seeds
    "seed": _SEED,
    "seeds": _SEED,
    "only_seeds": _SEED,
    "control_seed": _SEED,
    "seed_everything": _SEED,
    # how much is read, asked, replied
    "limit": _count("how many pairs or prompts are taken"),
    "batch_size": _count("how many run together"),
    "batch_tokens": _count("the most tokens of a batch"),
    "max_length": _count("the most tokens of a sequence"),
    "max_new_tokens": _count("the most tokens of a reply"),
    "random_directions": _count("how many control arms are measured", 0, 1000),
    "concurrency": _count("how many questions are under way at once", 1, 1024),
    "retries": _count("how often a question is asked again", 0, 100),
    "timeout": Range(0, 86400, "how many seconds an answer may take", above=True),
    "trials": _count("how many settings a search tries"),
    "limits": Range(-1, 1, "how much worse than the original's a rate may get"),
    # fine-tuning
    "rank": _count("the rank of an adapter; 0 for none", 0, 4096),
    "epochs": _count("how often each example is learned", 1, 1000),
    "batch": _count("how many examples a step learns", 1, 65536),
    "rate": Range(0, 1, "the highest learning rate", above=True),
    "most_tokens": _count("the most tokens of an example", 2),
    # weights
    "density": Range(0, 1, "the fraction of entries that is kept. To keep ten percent, write 0.1", above=True),
    "scale": Range(0, math.inf, "how many times the delta is subtracted or added. A negative one would add the harm"),
    "layer_scales": Range(
        0, math.inf, "a factor of `scale`. A negative one would add the harm; 0 leaves the layer as it is"
    ),
    "weights": Range(*_FINITE, "the factor of a harm vector"),
    "direction_layer": _LAYER,
    "facts_layers": _LAYER,
    "heads": Range(0, 9999, "a block or an attention head of it, both counted from 0"),
    # activations
    "tokens": _count("how many tokens are averaged"),
    "layers": _LAYER,
    "of_layer": _LAYER,
    "choose_layers": _count("how many layers are steered"),
    "keep_states": _count("up to how many pairs are kept state by state"),
    "strength": Range(*_FINITE, "how far states are led"),
    "sinks": Range(1, math.inf, "a multiple of the typical norm, over which states are left alone"),
    "kl_budget": Range(0, math.inf, "how far harmless replies may change, in nats", above=True),
    "orthogonal": Range(0, 1, "the share that is taken out"),
    "free": Range(0, 1, "a share of dimensions", above=True, below=True),
    "ridge": Range(0, math.inf, "a penalty"),
    "per_kind": _count("the most prompts of a kind; a class needs two prompts at least", 2),
    "threshold": Range(*_FINITE, "the score from which on a prompt is positive. All prompts, or none, would be"),
    "recall": Range(0, 1, "the share of positive prompts that is to be found. For 95 percent, write 0.95", above=True),
    "positive_factor": Range(*_FINITE, "a factor of the strength"),
    "negative_factor": Range(*_FINITE, "a factor of the strength"),
    "dead_zone": Range(0, math.inf, "the width of a span of scores"),
    "ramp": Range(0, math.inf, "the width of a span of scores"),
    "contrast": Range(*_FINITE, "what logits are multiplied by"),
    # machines
    "trainer.num_nodes": _count("how many machines work together", 1, 100_000),
}


def range_of(name: str) -> Range | None:
    """The range of a setting by its dotted name, if its numbers have one."""
    parts = name.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts)))
    return next((RANGES[end] for end in ends if end in RANGES), None)


def numbers(value: Any) -> Iterator[int | float]:
    """The numbers in a value, those inside lists and mappings included; what is true or false is none."""
    if isinstance(value, Mapping):
        value = value.values()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
        return
    elif not isinstance(value, list | tuple):
        return
    for one in value:
        yield from numbers(one)


def check_numbers(name: str, value: Any, remedy: str = "Leave it out for the default.", said: str = "") -> None:
    """Refuse a number outside its range, also in a list or mapping.

    Args:
        name: Of the setting, dotted.
        value: Any; what is no number is left to others.
        remedy: The last line of the message.
        said: How the name is written there, if not as it is.

    Raises:
        SettingError: With the number, the range, and what is meant.
    """
    known = range_of(name)
    if known is None:
        return
    for number in numbers(value):
        if not known.holds(number):
            has = f"is {number}" if number is value else f"holds {number}"
            raise SettingError(f"`{said or name}` must be {known}, but {has}.\nIt is {known.what}.\n{remedy}")


def check_fields(settings: Any, group: str = "") -> None:
    """Refuse a number of a data class outside its range.

    Args:
        settings: An object of the class.
        group: What settings of the class are called in the message, as `gate`.

    Raises:
        SettingError: As `check_numbers`.
    """
    for item in fields(settings):
        check_numbers(f"{group}.{item.name}" if group else item.name, getattr(settings, item.name))
