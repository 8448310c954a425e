"""The plan of a comparison: which measurements it takes, as far as those that are there can tell."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.experiments.compare.choice import Choice, Trial, decide, pooled
from sa_lightning.experiments.compare.rows import Identity, Rows, key_of
from sa_lightning.experiments.compare.settings import (
    ORIGINAL,
    Candidates,
    CompareSettings,
    Criterion,
    Method,
    grid,
    method_of,
    parsed,
)
from sa_lightning.experiments.settings import Config, Settings, differing

__all__ = ["Job", "Plan"]


@dataclass(frozen=True, eq=False)
class Job:
    """One measurement: a row under settings, on a target, with a seed.

    Attributes:
        row: Its name.
        target: The name of the model.
        seed: Of the run, and of worlds.
        stage: `choose` or `report`.
        settings: Those of the row, by their dotted names.
        identity: All that the outcome depends on, as it is written; the row's name is no part of it.
        draw: Number of a control's draw.
        curve: Whether it is a point of a strength curve.
    """

    row: str
    target: str
    seed: int
    stage: str
    settings: Settings
    identity: Identity
    draw: int | None = None
    curve: bool = False

    @cached_property
    def key(self) -> str:
        """The identity's hash."""
        return key_of(self.identity)


class Plan:
    """Rows, targets and seeds, and what follows from what has been measured.

    Args:
        settings: What was asked.
        config: The whole configuration, with `model`, `surgery`, `steering`, `data` and `evaluation`.
        plain: The defaults of `model`.
        rows: What has been measured.
    """

    def __init__(self, settings: CompareSettings, config: Config, plain: Settings, rows: Rows) -> None:
        self.settings, self.config, self.rows = settings, config, rows
        self.methods = {ORIGINAL: Method("original")} | {
            name: method_of(name, given) for name, given in settings.rows.items()
        }
        self.candidates: Candidates | None = None
        if settings.candidates is not None:
            self.candidates = parsed(Candidates, settings.candidates, "`compare.candidates`")
        self.criteria = [
            parsed(Criterion, given, f"Criterion {number} of `compare.criteria`")
            for number, given in enumerate(settings.criteria, 1)
        ]
        given = settings.targets or {"target": config["model"]["target"]}
        self.models = {
            name: config["model"] | (model if isinstance(model, dict) else {"target": model})
            for name, model in given.items()
        }
        self._told = {
            name: {key: value for key, value in model.items() if value != plain.get(key)}
            for name, model in self.models.items()
        }
        self._effective: dict[str, Settings] = {}
        self._known: dict[Any, Any] = {}
        self._known_at = -1

    def targets_of(self, name: str) -> list[str]:
        """Return the targets that a row is run on, in their order."""
        wanted = self.methods[name].targets
        return [target for target in self.models if wanted is None or target in wanted]

    def points(self, name: str) -> list[Settings]:
        """Return what a row chooses from; of a candidate without a choice, itself."""
        options = self.methods[name].choose
        return grid(options, f"`choose` of {name}") if options is not None else [{}]

    def chooses(self, name: str) -> bool:
        """Whether a row is measured on the prompts for choosing."""
        among = self.candidates.names if self.candidates is not None else []
        return self.methods[name].choose is not None or name in among

    def choice(self, name: str, target: str) -> Choice:
        """Say what a row takes on a target, from what has been measured."""
        return self._once(("choice", name, target), lambda: self._choice(name, target))

    def _choice(self, name: str, target: str) -> Choice:
        method = self.methods[name]
        fixed = self._fixed(name, target)
        if isinstance(fixed, Choice):
            return fixed
        if not self.chooses(name):
            return Choice("fixed", fixed)
        jobs = [[self._trial(name, target, seed, fixed | point) for seed in self._seeds("choose")]
                for point in self.points(name)]  # fmt: skip
        trials = [self._measured(fixed | point, found) for point, found in zip(self.points(name), jobs, strict=True)]
        before = self.before(target)
        if before is None or any(trial.metrics is None and not trial.failed for trial in trials):
            return Choice("waiting", trials=trials)
        return decide(method, trials, before, self.settings.objective, self.settings.limits)

    def before(self, target: str) -> dict[str, Rate] | None:
        """Return the original's rates on the prompts for choosing; None while they are not all measured."""
        rows = [self.rows.find(self._original(target, seed, "choose").key) for seed in self._seeds("choose")]
        known = [row for row in rows if row is not None]
        return pooled(known) if len(known) == len(rows) else None

    def winner(self) -> str | None:
        """Return the candidate that is reported: None while measurements are missing, "" if none is within the limits.

        Of equals the first is taken. A candidate that falls back is none.
        """
        assert self.candidates is not None
        target = self.candidates.target or next(iter(self.models))
        choices = {name: self.choice(name, target) for name in self.candidates.names}
        if any(choice.state == "waiting" for choice in choices.values()):
            return None
        sign = self.direction
        best = [
            (-sign * rate, number, name)
            for number, (name, choice) in enumerate(choices.items())
            if choice.state == "chosen"
            and choice.taken is not None
            and (metrics := choice.trials[choice.taken].metrics)
            and (rate := metrics[self.settings.objective].rate) is not None
        ]
        return min(best)[2] if best else ""

    @property
    def direction(self) -> int:
        """Whether more of the objective is better (1) or worse (-1)."""
        from sa_lightning.evaluation.statistics.pareto import DIRECTIONS

        return DIRECTIONS[self.settings.objective]

    def is_reported(self, name: str) -> bool | None:
        """Whether a row is measured for the report; None while it is not decided which candidate is."""
        if self.candidates is None or name not in self.candidates.names:
            return True
        winner = self.winner()
        return None if winner is None else name == winner

    def choosing(self) -> Iterator[Job]:
        """All measurements for choices, as far as the rows that others build on have made theirs."""
        for target in self.models:
            names = [name for name in self.methods if target in self.targets_of(name) and self.chooses(name)]
            for seed in self._seeds("choose"):
                if names:
                    yield self._original(target, seed, "choose")
                for name in names:
                    fixed = self._fixed(name, target)
                    if not isinstance(fixed, Choice):
                        for point in self.points(name):
                            yield self._trial(name, target, seed, fixed | point)

    def reporting(self, name: str, target: str) -> list[Job]:
        """All measurements of a row for the report, once its choice is made: itself or its draws, then its curve."""
        return self._once(("reporting", name, target), lambda: self._reporting(name, target))

    def _reporting(self, name: str, target: str) -> list[Job]:
        if name == ORIGINAL:
            return [self._original(target, seed, "report") for seed in self._seeds("report")]
        settings = self.choice(name, target).settings
        if settings is None:
            return []
        method, found = self.methods[name], []
        tasks = method.tasks or self.config["evaluation"]["tasks"]
        for seed in self._seeds("report"):
            for draw in range(1, method.draws + 1):
                found.append(self._job(name, target, seed, "report", settings | {str(method.draw): draw}, tasks, draw))
            if not method.draws:
                found.append(self._job(name, target, seed, "report", settings, tasks))
        for seed in self._seeds("report"):
            first = {str(method.draw): 1} if method.draws else {}
            for point in grid(method.curve, f"`curve` of {name}") if method.curve is not None else ():
                found.append(self._job(name, target, seed, "report", settings | first | point, tasks, curve=True))
        return found

    def jobs(self, only: Collection[str] | None = None) -> tuple[list[Job], list[tuple[str, str, int]]]:
        """Return all measurements that are known, and what waits for a choice: row, target, how many they will be.

        A measurement that several rows share is there once; with `only`, those of these rows are, whoever shares them.
        """
        found, waiting = list(self.choosing()), []
        for name, method in self.methods.items():
            for target in self.targets_of(name):
                reported = self.is_reported(name)
                if reported is False:
                    continue
                choice = Choice("fixed") if name == ORIGINAL else self.choice(name, target)
                if reported is None or choice.state == "waiting":
                    curve = grid(method.curve, f"`curve` of {name}") if method.curve is not None else ()
                    count = len(self._seeds("report")) * (max(1, method.draws) + len(curve))
                    if self.chooses(name) and isinstance(self._fixed(name, target), Choice):
                        count += len(self._seeds("choose")) * len(self.points(name))
                    waiting.append((name, target, count))
                else:
                    found += self.reporting(name, target)
        found = [job for job in found if only is None or job.row in only]
        once = {job.key: job for job in reversed(found)}
        return [job for job in found if once[job.key] is job], waiting

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What follows from the rows is the same until there are more of them."""
        if self._known_at != len(self.rows):
            self._known, self._known_at = {}, len(self.rows)
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _fixed(self, name: str, target: str) -> Settings | Choice:
        """What a row does not choose itself; the choice of another row, if that has none."""
        settings: Settings = {}
        for source in self.methods[name].sources:
            other = self.choice(source, target)
            if other.settings is None:
                return Choice(other.state)
            settings |= other.settings
        return settings | self.methods[name].set

    def _measured(self, settings: Settings, jobs: list[Job]) -> Trial:
        rows = [self.rows.find(job.key) for job in jobs]
        known = [row for row in rows if row is not None]
        failed = next((row["failed"] for row in known if "failed" in row), "")
        complete = len(known) == len(rows)
        return Trial(settings, pooled(known) if complete and not failed else None, failed if complete else "")

    def _original(self, target: str, seed: int, stage: str) -> Job:
        tasks = self.config["evaluation"]["tasks"] if stage == "report" else self._choose_tasks
        return self._job(ORIGINAL, target, seed, stage, {}, tasks)

    def _trial(self, name: str, target: str, seed: int, settings: Settings) -> Job:
        method = self.methods[name]
        first = {str(method.draw): 1} if method.draws else {}
        return self._job(name, target, seed, "choose", settings | first, self._choose_tasks)

    @property
    def _choose_tasks(self) -> list[str]:
        return self.settings.choose_tasks or self.config["evaluation"]["tasks"]

    def _seeds(self, stage: str) -> list[int]:
        return self.settings.seeds.get(stage, [])

    def _job(
        self,
        name: str,
        target: str,
        seed: int,
        stage: str,
        settings: Settings,
        tasks: list[str],
        draw: int | None = None,
        curve: bool = False,
    ) -> Job:
        evaluation, method = self.config["evaluation"], self.methods[name]
        told = json.dumps([method.arm, settings], default=str)
        if told not in self._effective:  # parsing takes a while, and there are thousands
            parts = differing(dict(self.config), settings, "sa compare") if method.parts else {}
            self._effective[told] = {f"{part}.{key}": v for part in method.parts for key, v in parts[part].items()}
        metadata, split = dict(evaluation["metadata"]), self.settings.splits.get(stage)
        identity: Identity = {
            "arm": method.arm,
            "settings": self._effective[told],
            "model": self._told[target],
            "seed": seed,
            "tasks": sorted(set(tasks)),
            "metadata": metadata | ({"split": split} if split else {}),
            "limit": evaluation["limit"],
        }
        if evaluation["max_new_tokens"] is not None:  # rows of before have no such key
            identity["max_new_tokens"] = evaluation["max_new_tokens"]
        return Job(name, target, seed, stage, settings, identity, draw, curve)
