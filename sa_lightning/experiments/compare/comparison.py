"""A comparison: a plan, the rows that are there, and one loaded model at a time to make the others on."""

import gc
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sa_lightning.errors import DataError, ModelError, NothingToDoError, SettingError, StepTooLargeError
from sa_lightning.evaluation import Prompting, evaluate
from sa_lightning.evaluation.harness.harness import Loaded
from sa_lightning.evaluation.tasks.catalogue import missing_tasks
from sa_lightning.experiments.bench import Bench, Edit, Measured
from sa_lightning.experiments.compare.check import check
from sa_lightning.experiments.compare.plan import Job, Plan
from sa_lightning.experiments.compare.report import CompareReport
from sa_lightning.experiments.compare.rows import Identity, Row, Rows, counts_of, documents_of
from sa_lightning.experiments.compare.settings import CompareSettings
from sa_lightning.experiments.settings import Config, Settings, made
from sa_lightning.files import json_digest
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.module import CausalLMModule
from sa_lightning.names import resolve_worlds
from sa_lightning.resources import shipped, versions
from sa_lightning.rows import check_lines
from sa_lightning.steering import weights_fingerprint


class Comparison:
    """A plan, the rows that are there, and one loaded model at a time to make the others on.

    Args:
        config: The parsed configuration.
        plain: The defaults of `model`.
        command: What was typed.
    """

    def __init__(self, config: Namespace, plain: Settings, command: str) -> None:
        self.settings = CompareSettings(**vars(config.compare))
        self.output, self.command, self.versions = Path(config.output), command, versions()
        self.config = config.as_dict()
        path = Path(self.settings.rows_file or self.output / "rows.jsonl")
        if path.is_dir() or any(parent.is_file() for parent in path.parents):
            raise SettingError(
                f"`--compare.rows_file` is {path}, which can be no file.\n"
                "Every measurement is a line of it.\nName a file, which need not be there, in a directory."
            )
        self.rows = Rows(path)
        self.plan = Plan(self.settings, self.config, plain, self.rows)
        check(self.plan, config.rerun)
        self._held: tuple[tuple[str, int], Bench, Config] | None = None
        self._missing: dict[str, Mapping[str, str]] = {}
        self._loaded: Loaded = {}

    def run(self, console: Terminal) -> None:
        """Run what is wanted and not there, as far as choices allow; other processes may do their share meanwhile."""
        done = 0
        with self._progress(console) as progress:
            bar = progress.add_task("", total=None)
            while todo := self._todo():
                jobs, waiting = self.plan.jobs()
                left = len([job for job in jobs if self.rows.find(job.key) is None]) if self._all else len(todo)
                total = done + left + sum(count for *_, count in waiting if self._all)
                for job in todo:
                    progress.update(bar, total=total, completed=done, description=_said(job))
                    self.rows.refresh()
                    if self.rows.find(job.key) is None:
                        row = self.measure(job)
                        self.rows.add(row)
                        if not console.is_terminal:
                            console.print(f"[{done + 1}/{total}] {_said(job)}: {_outcome(row)}", highlight=False)
                    done += 1
        self._held = None

    def rerun(self, name: str, console: Terminal) -> int:
        """Run a row afresh; 0 if every outcome is the one that is on record, 1 if not."""
        wanted = [job for job in self.plan.jobs([name])[0] if self._is_wanted(job)]
        wanted = [job for job in wanted if self.rows.find(job.key) is not None]
        if not wanted:
            raise SettingError(
                f"There is no measurement of {name} on record for these seeds and targets in {self.rows.path}.\n"
                "A rerun compares with what was measured before.\nLeave `--rerun` out to measure it for the first time."
            )
        path = self.output / "rerun.jsonl"
        check_lines(path, "key")
        path.unlink(missing_ok=True)
        fresh, same = Rows(path), True
        with self._progress(console) as progress:
            bar = progress.add_task("", total=len(wanted))
            for done, job in enumerate(wanted):
                progress.update(bar, completed=done, description=_said(job))
                row, known = self.measure(job, check=False), self.rows.find(job.key)
                assert known is not None
                fresh.add(row)
                reason = _difference(known, row)
                same = same and not reason
                console.print(f"{_said(job)}: {reason or 'the same'} ({_outcome(row)})", highlight=False)
        console.print(
            f"{len(wanted)} measurements of {name}: {'every outcome is that on record.' if same else 'they differ.'}"
        )
        return 0 if same else 1

    def report(self, console: Terminal) -> None:
        """Write tables and plots, show the tables, and say what is missing."""
        CompareReport(self.plan, self.output, self.command, self.versions).write(console)

    def measure(self, job: Job, *, check: bool = True) -> Row:
        """Measure one row under its settings, as `sa fit` and `sa validate` would; the model is given back.

        Raises:
            DataError: If the model, or the prompts, are not those of rows that are on record.
        """
        from lightning.pytorch import seed_everything

        asked, began = job.identity, time.perf_counter()
        bench, config = self._bench(job, check=check)
        worlds = _worlds(asked, job.seed)
        if check:
            self._check_worlds(worlds, job.seed)
        seed_everything(job.seed, verbose=False)
        parts = made(config, _for_job(job.settings, job), "sa compare")
        bench.data = parts.data
        bench.measure = self._measure(job, parts.prompting if asked["arm"] == "prompted" else None)
        found, failed = Measured([], Edit()), ""
        try:
            found = bench.run(asked["arm"], parts.surgery, parts.steering)
        except (NothingToDoError, StepTooLargeError) as error:  # a setting that goes nowhere is no reason to stop
            failed = str(error).split("\n")[0]
        row: Row = {
            "key": job.key,
            "row": job.row,
            "target": job.target,
            "stage": job.stage,
            **asked,
            "counts": counts_of(found.samples),
            "documents": documents_of(found.samples),
            "weights": self._weights,
            "worlds": worlds,
            "versions": self.versions,
            "seconds": round(time.perf_counter() - began, 2),
        }
        if job.draw:
            row["draw"] = job.draw
        if found.edit:
            row["edit"] = found.edit
        if failed:
            row["failed"] = failed
        if check:
            self._check_unseen(job, row)
        return row

    def _check_unseen(self, job: Job, row: Row) -> None:
        """Refuse to report on prompts by which settings were chosen, whatever their split is called.

        Raises:
            DataError: With the tasks.
        """
        if job.stage != "report":
            return
        chosen = [self.rows.find(other.key) for other in self.plan.choosing()]
        seen = {entry["prompts"] for other in chosen if other is not None for entry in other["documents"]}
        tasks = sorted({entry["task"] for entry in row["documents"] if entry["prompts"] in seen})
        if tasks:
            raise DataError(
                f"Settings were chosen by the very prompts that are reported on: {', '.join(tasks[:3])}.\n"
                "What is best on some prompts looks better there than it is.\n"
                "Give `compare.choose_tasks` other tasks, or tasks whose `split` names other prompts."
            )

    def _measure(self, job: Job, prompting: Prompting | None = None) -> Any:
        """A function that runs a job's tasks on a model, with an instruction if the arm is to have one."""
        asked, settings = job.identity, self.config["evaluation"]
        directories = [shipped("tasks"), *settings["task_dirs"]]
        metadata = _for_job(asked["metadata"], job)

        def measured(model: Any, tokenizer: Any) -> list[Any]:
            length = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
            told = json.dumps([asked["tasks"], metadata], sort_keys=True)
            if told not in self._missing:  # what groups and tags name and is not at hand is left out
                self._missing[told] = missing_tasks(
                    asked["tasks"],
                    [*map(str, directories)],
                    metadata,
                    length,
                    max_new_tokens=settings["max_new_tokens"],
                )
            return evaluate(
                model,
                tokenizer,
                asked["tasks"],
                task_dirs=directories,
                metadata=metadata,
                without=self._missing[told],
                limit=asked["limit"],
                batch_size=settings["batch_size"],
                max_length=length,
                max_new_tokens=settings["max_new_tokens"],
                seed=job.seed,
                known=self._loaded,
                prompting=prompting,
            )

        return measured

    def _bench(self, job: Job, *, check: bool) -> tuple[Bench, Config]:
        """The model of a job, loaded; the one before is let go first."""
        if self._held is None or self._held[0] != (job.target, job.seed):
            self._held, self._missing, self._loaded = None, {}, {}
            gc.collect()
            used = {name: value for name, value in self.config.items() if name != "compare"}  # not all targets
            config = _for_job(used | {"model": self.plan.models[job.target]}, job)
            module = CausalLMModule(**config["model"])
            self._check_instructions(job.target, module)
            bench = Bench(module, None, self._measure(job))
            self._weights = weights_fingerprint(bench.module.network)[:16]
            self._held = ((job.target, job.seed), bench, config)
        known = {
            row["weights"]
            for row in self.rows
            if (row["model"], row["seed"]) == (job.identity["model"], job.seed)
        }  # fmt: skip
        if check and known - {self._weights}:
            raise DataError(
                f"{self.rows.path} has rows of {job.target}, seed {job.seed}, with weights {', '.join(sorted(known))}, "
                f"but the model at hand has {self._weights}.\nRows of different models do not make one table.\n"
                "Bring the model back, or choose another `--compare.rows_file`."
            )
        return self._held[1], self._held[2]

    def _check_instructions(self, target: str, module: CausalLMModule) -> None:
        """Refuse rows whose instruction the chat template of a target does not write, before anything is measured.

        Raises:
            SettingError: With the row, and what the template says.
        """
        for name, method in self.plan.methods.items():
            told = dict(self.config.get("prompting") or {})
            for source in method.sources:
                told |= _of_prompting(self.plan.methods[source].set)
            told |= _of_prompting(method.set)
            for point in self.plan.points(name) if method.arm == "prompted" else ():
                if target in self.plan.targets_of(name):
                    try:
                        Prompting(**{**told, **_of_prompting(point)}).check(module.tokenizer)
                    except ModelError as error:
                        raise SettingError(f"The row {name}, on {target}: {error}") from error

    def _check_worlds(self, worlds: dict[str, str], seed: int) -> None:
        """Refuse worlds other than those of the rows on record: harm models and demonstrations come from there too.

        Raises:
            DataError: With both hashes.
        """
        known = (row["worlds"].items() for row in self.rows if row["seed"] == seed)
        other = {(name, told) for items in known for name, told in items if worlds.get(name, told) != told}
        for name, told in sorted(other):
            raise DataError(
                f"{self.rows.path} has rows of the world {name}, seed {seed}, {told[:12]}, but the one at hand is "
                f"{worlds[name][:12]}.\nRows of different worlds do not make one table.\n"
                "Build the world with the recipe of these rows, or choose another `--compare.rows_file`."
            )

    @property
    def _all(self) -> bool:
        asked = self.settings
        return asked.only is None and asked.only_targets is None and asked.only_seeds is None

    def _is_wanted(self, job: Job) -> bool:
        asked = self.settings
        return (asked.only_targets is None or job.target in asked.only_targets) and (
            asked.only_seeds is None or job.seed in asked.only_seeds
        )

    def _todo(self) -> list[Job]:
        """What can be run now: choices first, the jobs of a model together."""
        self.rows.refresh()
        only = self.settings.only
        jobs, _ = self.plan.jobs(None if only is None else ["original", *only])
        todo = [job for job in jobs if self.rows.find(job.key) is None and self._is_wanted(job)]
        places = {(job.target, job.seed): number for number, job in reversed([*enumerate(todo)])}
        if self._held is not None:
            places[self._held[0]] = -1  # it is loaded
        return sorted(todo, key=lambda job: places[job.target, job.seed])

    @staticmethod
    def _progress(console: Terminal) -> Progress:
        columns = (
            TextColumn("{task.description:<48}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("measurements"),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _for_job(value: Any, job: Job) -> Any:
    """What a config has for all, for one job: `{seed}` and `{target}` in a name are its own, and worlds are paths."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(item) for key, item in value.items()}
        if isinstance(value, list):
            return [named(item) for item in value]
        if isinstance(value, str):
            return value.replace("{seed}", str(job.seed)).replace("{target}", job.target)
        return value

    return resolve_worlds(named(value), job.seed)


def _said(job: Job) -> str:
    """A job in few words."""
    shown = {name: value for name, value in job.settings.items() if name != "prompting.instruction"}
    values = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in shown.values())
    settings = ", ".join(value for value in values if not value.startswith("world:") and "/" not in value)
    return f"{job.row}, {job.target}, seed {job.seed}, {job.stage} ({settings})".replace(" ()", "")


def _outcome(row: Row) -> str:
    """What was measured, in few words."""
    if "failed" in row:
        return row["failed"]
    counts = (f"{name.replace('_', ' ')} {k}/{n}" for name, (k, n) in row["counts"].items())
    return f"{', '.join(counts)}; {row['seconds']} s"


def _difference(known: Row, row: Row) -> str:
    """Say in what a fresh measurement differs from the one on record, the cause first; empty if in nothing."""
    before, now = ({(e["task"], e["kind"]): e for e in r["documents"]} for r in (known, row))
    if known["weights"] != row["weights"]:
        return f"other weights: {row['weights']}, on record {known['weights']}"
    asked = [key[0] for key, entry in before.items() if now.get(key, entry)["prompts"] != entry["prompts"]]
    if asked or before.keys() != now.keys():
        return f"other prompts in {', '.join(asked) or 'other tasks'}"
    changed = [task for (task, kind), entry in before.items() if now[task, kind]["outcomes"] != entry["outcomes"]]
    if changed or known["counts"] != row["counts"]:
        return f"other outcomes in {', '.join(changed)}; counts {row['counts']}, on record {known['counts']}"
    return "" if known.get("failed") == row.get("failed") else f"failed: {row.get('failed') or 'no longer'}"


def _worlds(asked: Identity, seed: int) -> dict[str, str]:
    """The hash of every world that a measurement names; of worlds made of public prompts, of every part it names."""
    from sa_lightning.testbed import REAL, world_directory

    found: dict[str, str] = {}
    for text in json.dumps([asked["model"], asked["settings"], asked["metadata"]]).split('"'):
        if text.startswith("world:"):
            name, _, part = text.removeprefix("world:").partition("/")
            path = world_directory(name, seed) / "world.json"
            if name in found or (part == "chat" and name in REAL and not path.exists()):
                continue
            record = json.loads(path.read_text(encoding="utf-8"))
            if "data_sets" in record:  # its parts come one by one, and a new one changes nothing of the others
                stage = part.partition("/")[0] or "data"
                if stage in record["stages"]:  # a published model alone is of no built world
                    found[f"{name}/{stage}"] = json_digest(record["stages"][stage]["files"])
            else:
                found[name] = record["hash"]
    return found


def _of_prompting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the instruction among others, by the names that `Prompting` has."""
    return {key.removeprefix("prompting."): one for key, one in settings.items() if key.startswith("prompting.")}
