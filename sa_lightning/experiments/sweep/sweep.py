"""A sweep: all trials of it, and what they are measured with."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import NothingToDoError, SettingError, StepTooLargeError
from sa_lightning.evaluation import evaluate, rate
from sa_lightning.evaluation.harness.settings import EvaluationSettings
from sa_lightning.evaluation.statistics.rates import MEASURES, Rate
from sa_lightning.experiments.bench import Bench
from sa_lightning.experiments.settings import MODEL_PARTS, Config, Settings, made, with_settings
from sa_lightning.experiments.sweep.report import OBJECTIVES, Plot, SweepReport
from sa_lightning.experiments.sweep.space import Match, Space
from sa_lightning.experiments.sweep.trials import (
    FIRST_KEY,
    Journal,
    Matched,
    Sampler,
    SeedResult,
    Trial,
    digest,
    rates_of,
)
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.module import CausalLMModule
from sa_lightning.names import resolve_worlds
from sa_lightning.resources import shipped, versions
from sa_lightning.rows import check_lines

ORIGINAL = "original"


SOURCES = ("surgery.harm", "surgery.aligned", "surgery.unaligned", "surgery.direction")


@dataclass
class SweepSettings:
    """What is tried, and what is asked of it.

    Args:
        space: Settings of surgery and steering by their dotted names, each a list of values, bounds {low, high, log},
            or {match: attack_success, at: 0.1, low: 0.1, high: 10}, which searches that setting until the rate is
            there, so that the others are compared at the same rate. A list of these lays one grid after another.
        sampler: `grid` runs every combination; `tpe`, `nsga` and `random` propose settings, for bounds.
        trials: How many a search runs.
        objectives: Rates to trade, the first of which chooses: attack_success, over_refusal, harmless_refusal,
            degenerate (less is better), refusal_harmful, utility (more is better).
        limits: How much worse than the original's a rate may get for a setting to be chosen.
        arm: Which arm is measured under each setting.
        seeds: Seeds of the run, and of `world:` names; counts are pooled over them.
        plot: Plot rates over a setting (`x`, on a log scale), one line for each value of another (`series`).
    """

    space: list[Settings] | Settings
    sampler: Sampler = "grid"
    trials: int = 50
    objectives: list[str] = field(default_factory=lambda: ["attack_success", "utility"])
    limits: dict[str, float] = field(
        default_factory=lambda: {"utility": 0.02, "harmless_refusal": 0.03, "over_refusal": 0.03, "degenerate": 0.01}
    )
    arm: Literal["edited", "steered", "edited+steered"] = "edited"
    seeds: list[int] = field(default_factory=lambda: [0])
    plot: Plot | None = None


class Sweep:
    """All trials of one sweep, and what they are measured with.

    Args:
        options: The parser, which makes objects of settings.
        config: The parsed configuration.
        command: What was typed.
    """

    def __init__(self, options: ArgumentParser, config: Namespace, command: str) -> None:
        self.options, self.config, self.settings = options, config, SweepSettings(**vars(config.sweep))
        self.space = Space(self.settings.space)
        self._check()
        output = Path(config.output)
        identity = config.as_dict()
        for name in ("output", "overwrite", "config"):
            identity.pop(name, None)
        kept = ["objectives", "arm", "seeds"]
        if self.settings.sampler != "grid":
            kept += ["sampler", "space"]  # what a search has learned is about its own space
        since = ("template_arguments", "system_prompt", "quantization")
        for part, name in (("evaluation", "max_new_tokens"), *(("model", name) for name in since)):
            if identity[part][name] is None:  # journals of before have no such key
                del identity[part][name]
        identity["sweep"] = {name: identity["sweep"][name] for name in kept}
        identity["content"] = _content({part: identity[part] for part in ("model", "surgery", "data", "evaluation")})
        if config.overwrite:
            check_lines(output / "journal.log", FIRST_KEY)
            (output / "journal.log").unlink(missing_ok=True)
        directions = ["maximize" if OBJECTIVES[name] > 0 else "minimize" for name in self.settings.objectives]
        self.journal = Journal(
            output / "journal.log", identity, directions, self.settings.sampler, self.settings.seeds[0]
        )
        self.report = SweepReport(output, command, versions(), self.settings, _fit_config(options, config))
        self._benches: dict[int, Bench] = {}
        self._configs: dict[int, Config] = {}

    def _check(self) -> None:
        """Refuse what can be refused before a model is loaded."""
        settings = self.settings
        EvaluationSettings(**vars(self.config.evaluation))
        unknown = [name for name in (*settings.objectives, *settings.limits) if name not in OBJECTIVES]
        if unknown or not settings.objectives or not settings.seeds:
            raise SettingError(
                f"`sweep.objectives` and `sweep.limits` are rates, and {unknown or 'none'} "
                f"{'is not one' if unknown else 'was given'}.\nThere are {', '.join(OBJECTIVES)}.\nName at least one "
                "objective and one seed."
            )
        if settings.sampler == "grid" and self.space.ranges:
            raise SettingError(
                "`sweep.space` has bounds, which a grid cannot run through.\n"
                "A grid takes every combination of values.\nList values, or choose `--sweep.sampler tpe`."
            )
        if settings.trials < 1 or not self.config.evaluation.tasks:
            raise SettingError(
                f"`sweep.trials` is {settings.trials} and `evaluation.tasks` is {self.config.evaluation.tasks}.\n"
                "A setting is measured by the replies to the tasks' prompts.\nGive at least one trial and one task."
            )
        if settings.sampler != "grid" and self.space.matches:
            raise SettingError(
                "`sweep.space` matches a rate, which a search cannot do.\nWrite `sampler: grid`, or bounds."
            )
        if settings.arm.endswith("steered") and not self.config.data.demonstrations:
            raise SettingError(
                f"The arm `{settings.arm}` needs demonstrations to fit directions on, and `data.demonstrations` is not "
                "set.\nGive `--data.demonstrations pairs.jsonl`."
            )
        if settings.plot is not None:
            strange = [name for name in settings.plot.metrics if name not in OBJECTIVES]
            if strange or settings.plot.x not in self.space.names:
                raise SettingError(
                    f"`sweep.plot` shows {strange or list(settings.plot.metrics)} over `{settings.plot.x}`, but there "
                    f"are the rates {', '.join(OBJECTIVES)} and the settings {', '.join(self.space.names)}.\n"
                    "Plot what is measured over what is varied."
                )
        idle = {"edited": "steering.", "steered": "surgery."}.get(settings.arm)
        unused = [name for name in self.space.names if idle and name.startswith(idle)]
        if unused:
            other = "steered" if settings.arm == "edited" else "edited"
            raise SettingError(
                f"`sweep.space` varies `{unused[0]}`, which the arm `{settings.arm}` does not use.\n"
                "Every trial would measure the same.\n"
                f"Leave it out, or choose `--sweep.arm {other}`, or `edited+steered`."
            )
        for tried in self.space.corners():
            # Wrong names and values are found now, not after hours.
            parts = made(self.config.as_dict(), tried, "sa sweep")
            wanted = parts.surgery.wanted or any(name in SOURCES for name in self.space.names)
            if settings.arm.startswith("edited") and not wanted:
                raise SettingError(
                    f"The arm `{settings.arm}` needs a surgery, and neither `surgery.harm` nor `surgery.aligned`, "
                    "`surgery.unaligned` or `surgery.direction` is set.\n"
                    "It is measured after an edit of the weights.\nGive `--surgery.harm HARM`."
                )

    def run(self, console: Terminal) -> None:
        """Run what has not been run; an interrupted sweep goes on."""
        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("the original", total=None)
            self.report.before = self._trial(ORIGINAL, {})
            steps = self._search() if self.settings.sampler != "grid" else self._grid()
            total = self.settings.trials if self.settings.sampler != "grid" else sum(
                matched[1].steps if matched else 1 for *_, matched in self.space.points()
            )  # fmt: skip
            progress.update(bar, total=total)
            for done, record in enumerate(steps, 1):
                shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in record["settings"].values())
                progress.update(bar, completed=min(done, total), description=shown[:28])
                self.report.add(record)

    def _grid(self) -> Iterator[Trial]:
        for number, point, matched in self.space.points():
            if matched is None:
                yield {**self._trial(self.settings.arm, point), "grid": number}
                continue
            name, match = matched
            aim, before = match.at, self.report.original[match.match].rate
            if before is None:
                raise SettingError(
                    f"`sweep.space` matches {match.match}, but no prompt of the tasks counts for it.\n"
                    "A rate needs prompts.\nAdd tasks that have some, or match another."
                )
            if match.relative:
                aim *= before
            yield from self._matched(number, point, name, match, aim)

    def _matched(self, number: int, point: Settings, name: str, match: Match, aim: float) -> Iterator[Trial]:
        search = match.search()
        value = next(search)
        found: list[Trial] = []

        def off(record: Trial) -> float:
            rate = rates_of(record)[match.match].rate
            return math.inf if rate is None else rate - aim

        with contextlib.suppress(StopIteration):
            while True:
                record: Trial = {**self._trial(self.settings.arm, {**point, name: value}), "grid": number}
                found.append(record)
                value = search.send(off(record) if record["metrics"] else 1.0 - record.get("too_far", False) - aim)
        closest = min((record for record in found if record["metrics"]), key=lambda one: abs(off(one)), default=None)
        for record in found:
            distance = abs(off(record)) if record is closest else math.inf
            matched: Matched = {"rate": match.match, "aim": aim, "off": distance}
            record["matched"] = matched if distance <= match.tolerance else None
            record["search"] = True
            yield record

    def _search(self) -> Iterator[Trial]:
        done = [record for record in self.journal.records() if record["arm"] != ORIGINAL]
        for record in done:
            record["grid"] = None
            yield record
        for _ in range(self.settings.trials - len(done)):
            trial = self.journal.ask()
            yield {**self._trial(self.settings.arm, self.space.suggest(trial), trial), "grid": None}

    def _trial(self, arm: str, settings: Settings, trial: Any = None) -> Trial:
        """Measure one setting on all seeds, unless the journal has it."""
        known = self.journal.find(settings, arm)
        if known is not None:
            if trial is not None:
                self.journal.add({**known}, _objectives(known, self.settings.objectives), trial)
            return known
        began = time.perf_counter()
        record: Trial = {
            "digest": digest(settings, arm),
            "arm": arm,
            "settings": settings,
            "by_seed": {},
            "commit": self.report.versions.get("commit"),
            "metrics": None,
            "seconds": 0.0,
        }
        try:
            for seed in self.settings.seeds:
                record["by_seed"][str(seed)] = self._measure(seed, arm, settings)
            record["metrics"] = _pooled(list(record["by_seed"].values()))
        except (NothingToDoError, StepTooLargeError) as error:  # a setting that goes nowhere is no reason to stop
            record["failed"] = str(error).split("\n")[0]
            record["too_far"] = isinstance(error, StepTooLargeError)
        record["seconds"] = round(time.perf_counter() - began, 2)
        if arm != ORIGINAL or record["metrics"]:
            values = _objectives(record, self.settings.objectives)
            # The original has no settings, so a search must not count it among its trials.
            self.journal.add(record, values if arm != ORIGINAL else None, trial)
        return record

    def _measure(self, seed: int, arm: str, settings: Settings) -> SeedResult:
        if seed not in self._benches:
            self._configs[seed] = resolve_worlds(self.config.as_dict(), seed)
            self._benches[seed] = self._bench(seed)
        parts = made(self._configs[seed], resolve_worlds(settings, seed), "sa sweep")
        samples, edit = self._benches[seed].run(arm, parts.surgery, parts.steering)
        counts = {}
        for name, (is_over, hits) in MEASURES.items():
            over = [hits(sample) for sample in samples if is_over(sample)]
            counts[name] = [sum(over), len(over)]
        return {"counts": counts, **edit}

    def _bench(self, seed: int) -> Bench:
        config, asked = self._configs[seed], self.config.evaluation

        def measure(model: Any, tokenizer: Any) -> list[Any]:
            return evaluate(
                model,
                tokenizer,
                asked.tasks,
                task_dirs=[shipped("tasks"), *asked.task_dirs],
                metadata=config["evaluation"]["metadata"],
                limit=asked.limit,
                batch_size=asked.batch_size,
                max_length=module.max_length,
                max_new_tokens=asked.max_new_tokens,
                seed=seed,
            )

        module = CausalLMModule(**config["model"])
        data = DemonstrationDataModule(**config["data"]) if config["data"]["demonstrations"] else None
        return Bench(module, data, measure)


def _content(config: Any) -> Any:
    """Sizes and times of the files that a configuration names: other weights or prompts make another sweep."""
    if isinstance(config, dict):
        return {key: found for key, value in config.items() if (found := _content(value))}
    if isinstance(config, list):
        return [found for value in config if (found := _content(value))]
    if not isinstance(config, str) or not Path(config).exists():
        return None
    path = Path(config)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _pooled(seeds: list[SeedResult]) -> dict[str, Rate]:
    """Rates over the prompts of all seeds together."""
    return {
        name: rate(*(sum(seed["counts"][name][i] for seed in seeds) for i in (0, 1))) for name in seeds[0]["counts"]
    }


def _objectives(record: Trial, names: list[str]) -> list[float] | None:
    if record["metrics"] is None:
        return None
    values = [(name, record["metrics"][name].rate) for name in names]
    missing = [name for name, value in values if value is None]
    if missing:
        raise SettingError(
            f"`sweep.objectives` names {missing[0]}, but no prompt of the tasks counts for it.\n"
            "An objective needs prompts.\nAdd tasks that have some, or leave it out."
        )
    return [value for _, value in values if value is not None]


def _fit_config(options: ArgumentParser, config: Namespace) -> Callable[[Settings], Config]:
    """A function from chosen settings to a configuration for `sa fit`, with what differs from the defaults."""
    plain = options.get_defaults().as_dict()
    given = config.as_dict()

    def differing(value: Any, default: Any) -> Any:
        if isinstance(value, dict) and isinstance(default, dict):
            kept = {k: d for k, v in value.items() if (d := differing(v, default.get(k))) not in (None, {})}
            return kept or None
        return None if value == default else value

    def merged(settings: Settings) -> Config:
        parts = {part: differing(given[part], plain[part]) or {} for part in ("model", *MODEL_PARTS)}
        found = with_settings(parts, settings)
        return {"seed_everything": given["sweep"]["seeds"][0], **{k: v for k, v in found.items() if v}}

    return merged
