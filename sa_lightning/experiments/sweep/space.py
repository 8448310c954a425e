"""The space of a sweep: which settings are tried, one after the other."""

import itertools
import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sa_lightning.errors import SettingError
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS
from sa_lightning.experiments.settings import Settings

__all__ = ["Match", "Range", "Space"]


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, for a search."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Match:
    """A setting that is searched until a rate has a given value, so that others are compared at the same rate.

    Bisection between `low` and `high` on a log scale, `steps` trials at most, until the rate is within `tolerance`.

    Attributes:
        match: The rate, which must fall as the setting grows.
        at: The value it is to have; a share of the original's, if `relative`.
    """

    match: str
    at: float
    low: float
    high: float
    relative: bool = False
    steps: int = 7
    tolerance: float = 0.01

    def search(self) -> Generator[float, float, None]:
        """Values to try; send the difference between the rate and what it is to be after each."""
        low, high = math.log(self.low), math.log(self.high)
        for _ in range(self.steps):
            middle = (low + high) / 2
            off = yield float(f"{math.exp(middle):.4g}")
            if abs(off) <= self.tolerance:
                return
            low, high = (middle, high) if off > 0 else (low, middle)


class Space:
    """Grids, laid one after the other: each takes every combination of its values.

    Args:
        grids: Dotted settings with what they may be: a list of values, a value, {low, high, log} for a search,
            or {match, at, low, high, …}.
    """

    def __init__(self, grids: list[Settings] | Settings) -> None:
        given = [grids] if isinstance(grids, dict) else grids
        self.grids = [{name: _option(name, value) for name, value in grid.items()} for grid in given]
        if not self.grids or not all(self.grids):
            raise SettingError(
                "`space` is empty, so there is nothing to compare.\n"
                "A sweep tries settings of surgery and steering.\n"
                "Write, say, `space: {surgery.density: [0.05, 0.1, 0.2]}`."
            )
        for grid in self.grids:
            if sum(isinstance(option, Match) for option in grid.values()) > 1:
                raise SettingError("A grid of `space` can match a rate by one setting only.\nKeep one `match`.")

    @property
    def ranges(self) -> bool:
        """Whether any setting has bounds rather than values."""
        return any(isinstance(option, Range) for grid in self.grids for option in grid.values())

    @property
    def names(self) -> tuple[str, ...]:
        """All settings that are varied."""
        return tuple(dict.fromkeys(name for grid in self.grids for name in grid))

    @property
    def matches(self) -> bool:
        """Whether any setting is searched until a rate has a value."""
        return any(isinstance(option, Match) for grid in self.grids for option in grid.values())

    def corners(self) -> Iterator[Settings]:
        """Every combination of values, with bounds at their ends."""
        for grid in self.grids:
            ends = [[o.low, o.high] if isinstance(o, Range | Match) else o for o in grid.values()]
            yield from (dict(zip(grid, values, strict=True)) for values in itertools.product(*ends))

    def points(self) -> Iterator[tuple[int, Settings, tuple[str, Match] | None]]:
        """Every combination: number of its grid, settings, and the setting that is matched, if one is."""
        for number, grid in enumerate(self.grids):
            matched = next(((name, option) for name, option in grid.items() if isinstance(option, Match)), None)
            lists = {name: option for name, option in grid.items() if isinstance(option, list)}
            for values in itertools.product(*lists.values()):
                yield number, dict(zip(lists, values, strict=True)), matched

    def suggest(self, trial: Any) -> Settings:
        """Settings for a trial of optuna; of several grids, it chooses one."""
        number = 0
        if len(self.grids) > 1:
            number = trial.suggest_categorical("grid", list(range(len(self.grids))))
        found: Settings = {}
        for name, option in self.grids[number].items():
            key = name if len(self.grids) == 1 else f"{number}.{name}"
            if isinstance(option, Range):
                found[name] = float(f"{trial.suggest_float(key, option.low, option.high, log=option.log):.6g}")
            elif isinstance(option, Match):
                raise SettingError(f"`{name}` is matched, which a search cannot do.\nWrite `sampler: grid`, or bounds.")
            else:
                # optuna keeps only simple values; the place in the list stands for the others.
                found[name] = option[trial.suggest_categorical(key, list(range(len(option))))]
        return found


def _option(name: str, value: Any) -> list[Any] | Range | Match:
    if not name.startswith(("surgery.", "steering.")):
        raise SettingError(
            f"`space` names `{name}`, but a sweep tries settings of `surgery` and `steering`.\n"
            "All else is the same for every trial.\nWrite `surgery.density`, say; `sa fit --help` lists them."
        )
    if isinstance(value, list):
        if not value:
            raise SettingError(f"`space` gives no values for `{name}`.\nWrite some, such as [0.1, 0.2].")
        return value
    if not isinstance(value, Mapping):
        return [value]
    kind: Any = Match if "match" in value else Range
    try:
        option = kind(**value)
    except TypeError as error:
        raise SettingError(
            f"`space` says of `{name}`: {dict(value)}, which is neither bounds nor a match ({error}).\n"
            "Write {low: 0.1, high: 4, log: true}, or {match: attack_success, at: 0.1, low: 0.1, high: 10}."
        ) from None
    if not all(isinstance(bound, int | float) for bound in (option.low, option.high)):
        raise SettingError(f"`space` bounds `{name}` by {option.low!r} and {option.high!r}, which are no numbers.")
    if isinstance(option, Match) and option.steps < 1:
        raise SettingError(f"`space` searches `{name}` in {option.steps} steps.\nIt takes at least one.")
    if not option.low < option.high or (option.low <= 0 and (isinstance(option, Match) or option.log)):
        raise SettingError(f"`space` bounds `{name}` by {option.low} and {option.high}.\nWrite 0 < low < high.")
    if isinstance(option, Match) and option.match not in DIRECTIONS:
        raise SettingError(f"`{option.match}` is no rate; there are {', '.join(DIRECTIONS)}.\nMatch one of them.")
    return option
