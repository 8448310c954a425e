"""Which settings a row takes: a function of what was measured on the prompts for choosing, and of nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sa_lightning.evaluation import rate
from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS, choose, costs_little
from sa_lightning.experiments.compare.rows import Row
from sa_lightning.experiments.compare.settings import Method
from sa_lightning.experiments.settings import Settings

__all__ = ["Choice", "Trial", "decide", "pooled"]


@dataclass
class Trial:
    """One point of a grid, over all seeds.

    Attributes:
        settings: By their dotted names.
        metrics: Rates pooled over seeds; None if it failed on one of them, or is not measured on all.
        failed: Why it failed.
    """

    settings: Settings
    metrics: dict[str, Rate] | None = None
    failed: str = ""


@dataclass
class Choice:
    """What a row takes on one target.

    Attributes:
        state: `fixed`, nothing was to be chosen; `chosen`; `fallback`, the closest to the limits; `none`, nothing is
            within the limits, or a row that it builds on has nothing; `waiting`, for measurements.
        settings: All of the row's, those of the rows it builds on among them; None in the last two states.
        trials: What was tried.
        taken: Index of the trial that was taken.
    """

    state: str
    settings: Settings | None = None
    trials: list[Trial] = field(default_factory=list)
    taken: int | None = None


def pooled(rows: Sequence[Row]) -> dict[str, Rate]:
    """Return the rates over the prompts of several measurements together; of what has no prompts, those of nothing."""
    sums = {name: [0, 0] for name in DIRECTIONS}
    for row in rows:
        for name, (k, n) in row["counts"].items():
            sums[name] = [sums[name][0] + k, sums[name][1] + n]
    return {name: rate(k, n) for name, (k, n) in sums.items()}


def decide(
    method: Method, trials: list[Trial], before: Mapping[str, Rate], objective: str, limits: Mapping[str, float]
) -> Choice:
    """Apply the rule of a row; of equals the first is taken.

    - `best`: the best rate among the settings that cost little (`pareto.choose`);
    - `matched`: the rate closest to `at` times the original's, whatever it costs;
    - `fallback`, where nothing costs little: the setting whose worst excess over a limit is smallest.

    Args:
        method: The row.
        trials: All points of its grid, measured or failed.
        before: The original's rates on the same prompts.
        objective: The rate that chooses.
        limits: How much worse each rate may get.
    """
    measured = [(index, t.metrics) for index, t in enumerate(trials) if t.metrics and t.metrics[objective].n]
    taken, state = None, "chosen"
    if method.rule == "matched":
        aim = aim_of(method, before[objective])
        if aim is not None and measured:
            taken = min(measured, key=lambda pair: (abs((pair[1][objective].rate or 0.0) - aim), pair[0]))[0]
    else:
        taken = choose([{"metrics": trial.metrics} for trial in trials], objective, before, limits)
        if taken is None and method.fallback and measured:
            taken = min(measured, key=lambda pair: (excess(pair[1], before, limits), pair[0]))[0]
            state = "fallback"
    if taken is None:
        return Choice("none", trials=trials)
    return Choice(state, trials[taken].settings, trials, taken)


def aim_of(method: Method, before: Rate) -> float | None:
    """Return the rate that a `matched` row comes near: `at` times the original's; None without prompts."""
    return None if before.rate is None else method.at * before.rate


def excess(metrics: Mapping[str, Rate], before: Mapping[str, Rate], limits: Mapping[str, float]) -> float:
    """Return by how much the worst rate is beyond its limit; negative if all are within."""
    pairs = [(name, before[name].rate, metrics[name].rate) for name in limits]
    beyond = [
        DIRECTIONS[name] * (then - now) - limits[name]
        for name, then, now in pairs
        if then is not None and now is not None
    ]
    return max(beyond, default=0.0)


def remark(metrics: Mapping[str, Rate] | None, before: Mapping[str, Rate], limits: Mapping[str, float]) -> str:
    """Say of a trial whether it costs too much."""
    return "" if metrics is None or costs_little(metrics, before, limits) else "too costly"
