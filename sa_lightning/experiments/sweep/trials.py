"""The journal of a sweep: every finished trial, on disk as soon as it is finished, and never run again."""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NotRequired, Required, TypedDict

from sa_lightning.errors import SettingError, differences
from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.experiments.bench import Edit
from sa_lightning.experiments.settings import Config, Settings
from sa_lightning.files import json_digest
from sa_lightning.rows import cut_tail

__all__ = ["FIRST_KEY", "Journal", "Sampler", "SeedResult", "Trial", "rates_of"]

FIRST_KEY = "op_code"  # of the lines that optuna writes
Sampler = Literal["grid", "tpe", "nsga", "random"]


class SeedResult(Edit):
    """Of one seed: k and n by measure, and what its surgery says of itself."""

    counts: Required[dict[str, list[int]]]


class Matched(TypedDict):
    """A rate that was searched for, what it was to be, and how far off it is."""

    rate: str
    aim: float
    off: float


class Trial(TypedDict):
    """A trial, as the journal and sweep.json have it; of one that went nowhere, `metrics` are None."""

    digest: str
    arm: str
    settings: Settings
    by_seed: dict[str, SeedResult]
    commit: str | None
    metrics: dict[str, Rate] | None
    failed: NotRequired[str]
    too_far: NotRequired[bool]
    seconds: float
    grid: NotRequired[int | None]
    matched: NotRequired[Matched | None]
    search: NotRequired[bool]


def rates_of(trial: Trial) -> dict[str, Rate]:
    """Return the rates of a trial that was measured."""
    assert trial["metrics"] is not None
    return trial["metrics"]


class Journal:
    """An optuna study in DIR/journal.log, with the whole record of each trial.

    Args:
        path: The file; continued if it exists.
        identity: What the sweep measures: a journal of another sweep is refused.
        directions: `minimize` or `maximize` for each objective.
        sampler: How a search proposes settings.
        seed: Of the search.
    """

    def __init__(self, path: Path, identity: Config, directions: list[str], sampler: Sampler, seed: int) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path.parent.mkdir(parents=True, exist_ok=True)
        stale = Path(f"{path}.lock")
        if stale.is_symlink():  # of a killed run, for which optuna would wait: the lock of the output is ours
            stale.unlink()
        cut_tail(path, FIRST_KEY)  # a line that a kill has cut short is no line
        for left in path.parent.glob(f"{path.name}.lock*"):  # optuna's own, which outlives a process that is killed
            left.unlink()
        alone: Any = SimpleNamespace(acquire=lambda: True, release=lambda: None)  # the output is locked for this run
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=alone))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna calls some of its own samplers experimental
            given = json.dumps(identity, sort_keys=True, default=str)
            study: dict[str, Any] = {"storage": storage, "study_name": "sweep", "directions": directions}
            self._study = optuna.create_study(**study, load_if_exists=True)
            known = self._study.user_attrs.get("identity")
            if known not in (None, given) and not self.records():  # nothing was measured under the other conditions
                optuna.delete_study(study_name="sweep", storage=storage)
                self._study, known = optuna.create_study(**study), None
            finished = len(self.records())
            samplers: dict[str, Callable[[], Any]] = {
                "grid": lambda: optuna.samplers.RandomSampler(seed=seed),
                "tpe": lambda: optuna.samplers.TPESampler(seed=seed + finished, multivariate=True),
                "nsga": lambda: optuna.samplers.NSGAIISampler(seed=seed + finished),
                "random": lambda: optuna.samplers.RandomSampler(seed=seed + finished),
            }
            self._study.sampler = samplers[sampler]()
        if known not in (None, given):
            raise SettingError(
                f"{path} is the journal of another sweep: {differences(json.loads(known), json.loads(given))}.\n"
                "Trials under other conditions cannot be compared with these.\n"
                "Choose another `--output`, or pass `--overwrite`."
            )
        self._study.set_user_attr("identity", given)
        self._path = path

    def drop_if_empty(self) -> None:
        """Remove the file if no trial has finished."""
        if not self.records():
            self._path.unlink(missing_ok=True)

    def records(self) -> list[Trial]:
        """All finished trials, in the order in which they ran."""
        return [_read(trial.user_attrs["record"]) for trial in self._study.get_trials() if "record" in trial.user_attrs]

    def find(self, settings: Settings, arm: str) -> Trial | None:
        """The finished trial with these settings, if there is one."""
        wanted = digest(settings, arm)
        return next((record for record in self.records() if record["digest"] == wanted), None)

    def add(self, record: Trial, values: list[float] | None, trial: Any = None) -> None:
        """Write a finished trial down.

        Args:
            record: What is kept of it.
            values: Its objectives; None if it failed.
            trial: The trial of a search, which is told how it went.
        """
        import optuna

        written = json.loads(json.dumps(record, default=asdict))
        state = optuna.trial.TrialState.COMPLETE if values is not None else optuna.trial.TrialState.FAIL
        if trial is not None:
            trial.set_user_attr("record", written)
            self._study.tell(trial, values, state=state)
            return
        self._study.add_trial(
            optuna.trial.create_trial(state=state, values=values, user_attrs={"record": written}, system_attrs={})
        )

    def ask(self) -> Any:
        """Begin a trial of a search."""
        return self._study.ask()


def _read(record: Any) -> Trial:
    """A record as the journal has it, its metrics as rates."""
    metrics = record["metrics"]
    found: Any = {**record, "metrics": metrics and {name: Rate(**entry) for name, entry in metrics.items()}}
    return found


def digest(settings: Settings, arm: str) -> str:
    """An identity of a trial's settings."""
    return json_digest([arm, settings])[:16]
