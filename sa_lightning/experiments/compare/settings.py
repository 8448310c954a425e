"""What a comparison is asked to do: rows, where their settings come from, what is stated of them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from jsonargparse import ArgumentParser

from sa_lightning.errors import SettingError
from sa_lightning.experiments.from_config import config_settings
from sa_lightning.experiments.settings import MODEL_PARTS, PARTS, Config, Settings, with_settings

__all__ = ["ORIGINAL", "Candidates", "CompareSettings", "Criterion", "Method", "grid", "method_of", "parsed"]

ORIGINAL = "original"
T = TypeVar("T")


@dataclass
class CompareSettings:
    """What is compared, on which models, and by which rules.

    Args:
        rows: Name to what a row is: `arm` (edited, steered, edited+steered; prompted: the original with an
            instruction); `from_config`, a config of `sa fit` whose surgery, steering and data it takes, as far as the
            arm uses them; `set`, dotted settings of these, or of prompting, over those; `from`, rows whose chosen
            settings it builds on; `choose`, a grid of settings, or a list of grids, of which `rule` takes one
            for each target: `best` (least attack success within the limits) or `matched` (attack success closest to
            `at` times the original's); `fallback`, to take the setting closest to the limits where none is within;
            `targets` and `tasks`, some of all; `draws`, to run it so often with `draw` set to 1, 2, …; `control`, rows
            to test it against; `curve`, a grid that is run on the seeds of the report too. The row `original` is
            always there.
        rows_file: Where measurements are kept; OUTPUT/rows.jsonl if not set. What is there is not run again.
        targets: Name to model: a directory, a Hub id, a GGUF file, `world:…`, or a mapping of settings of `model`;
            `{seed}` and `{target}` in names, also of files in the tasks' metadata, are the seed and the name here. That
            of `model.target`, if not set.
        seeds: `choose` and `report`: seeds of the runs, and of `world:` names. Counts are pooled over them.
        splits: `choose` and `report`: the `split` in the metadata of tasks.
        choose_tasks: What settings are chosen by; `evaluation.tasks` if not set.
        objective: The rate that chooses.
        limits: How much worse than the original's a rate may get for a setting to be chosen by `best`.
        candidates: `names` of rows, of which the best on the prompts for choosing, on the model `target`, alone is
            reported, and tested against the row `baseline`.
        criteria: Statements to check: `row`, a `target`, and one of `relative_drop` (0.5: attack success halved),
            `percentile_of_draws` (0.95: lower than that of at least so many draws of the row `control`),
            `change_at_most`, `change_low` (a bound for the low end of the change's interval, met too where
            `or_includes_zero` and it does), `not_worse` (the change's interval includes 0 or is on the better side) or
            `at_most`, of a `metric`, of all tasks or of one `task`; with `seeds_at_least`, on so many seeds, else over
            all.
        only: Run these rows alone.
        only_targets: Run on these targets alone.
        only_seeds: Run these seeds alone: processes may share the work so.
    """

    rows: dict[str, Config]
    rows_file: str | None = None
    targets: Config = field(default_factory=dict)
    seeds: dict[str, list[int]] = field(default_factory=lambda: {"choose": [0], "report": [0]})
    splits: dict[str, str] = field(default_factory=dict)
    choose_tasks: list[str] = field(default_factory=list)
    objective: str = "attack_success"
    limits: dict[str, float] = field(
        default_factory=lambda: {"utility": 0.02, "harmless_refusal": 0.03, "over_refusal": 0.03, "degenerate": 0.01}
    )
    candidates: Config | None = None
    criteria: list[Config] = field(default_factory=list)
    only: list[str] | None = None
    only_targets: list[str] | None = None
    only_seeds: list[int] | None = None


@dataclass
class Method:
    """One row: an arm under settings, some of which may be chosen. See `CompareSettings`."""

    arm: Literal["original", "edited", "steered", "edited+steered", "prompted"] = "edited"
    set: Settings = field(default_factory=dict)
    from_config: str | None = None
    sources: list[str] = field(default_factory=list)
    choose: list[Settings] | Settings | None = None
    rule: Literal["best", "matched"] = "best"
    at: float = 0.5
    fallback: bool = False
    targets: list[str] | None = None
    tasks: list[str] | None = None
    draws: int = 0
    draw: str | None = None
    control: list[str] = field(default_factory=list)
    curve: list[Settings] | Settings | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the configuration that the arm depends on."""
        used = {"edited": ("surgery",), "steered": ("steering", "data"), "edited+steered": MODEL_PARTS}
        return (used | {"original": (), "prompted": ("prompting",)})[self.arm]


@dataclass
class Candidates:
    """Rows of which one is reported. See `CompareSettings`."""

    names: list[str]
    baseline: str
    target: str | None = None


@dataclass
class Criterion:
    """A statement to check. See `CompareSettings`."""

    row: str
    target: str | None = None
    metric: str = "attack_success"
    task: str | None = None
    against: str = ORIGINAL
    control: str | None = None
    relative_drop: float | None = None
    percentile_of_draws: float | None = None
    change_at_most: float | None = None
    change_low: float | None = None
    or_includes_zero: bool = False
    not_worse: bool | None = None
    at_most: float | None = None
    seeds_at_least: int | None = None

    def __post_init__(self) -> None:
        """What is false is not stated."""
        self.not_worse = self.not_worse or None

    STATEMENTS = ("relative_drop", "percentile_of_draws", "change_at_most", "change_low", "not_worse", "at_most")

    @property
    def statement(self) -> str:
        """Which of the statements it makes."""
        return next(name for name in self.STATEMENTS if getattr(self, name) is not None)


def parsed(kind: type[T], given: Mapping[str, Any], where: str) -> T:
    """Make one of these of a mapping, with types checked.

    Raises:
        SettingError: If it has a key or a value that cannot be.
    """
    renamed = {("sources" if key == "from" else key): value for key, value in given.items()}
    for name in ("sources", "control", "targets", "tasks"):  # one needs no list
        if kind is Method and isinstance(renamed.get(name), str):
            renamed[name] = [renamed[name]]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "it")
    try:
        made: Any = parser.instantiate(parser.parse_object({"it": renamed}))
    except Exception as error:  # jsonargparse raises several kinds
        reason = str(error).replace("it.", "").strip().splitlines()[-1]
        raise SettingError(
            f"{where} cannot be read: {reason}\nIt was given as {dict(given)}.\n"
            "`sa compare --help` says what may be set there."
        ) from error
    return made.it


def method_of(name: str, given: Mapping[str, Any]) -> Method:
    """Make a row of what is given for it, with the settings of its config among its own.

    Raises:
        SettingError: As `parsed`; or if its config is none of `sa fit`.
    """
    found = parsed(Method, given, f"`compare.rows.{name}`")
    if found.from_config is not None:
        own, found.set = found.set, config_settings(found.from_config, found.parts, f"compare.rows.{name}")
        for setting, value in own.items():
            whole = ".".join(setting.split(".")[:2])
            if whole != setting and isinstance(found.set.get(whole), dict):  # within a gate or rules of the config
                part, key = whole.split(".")
                setting, value = whole, with_settings({part: {key: found.set[whole]}}, {setting: value})[part][key]
            found.set[setting] = value
    return found


def grid(options: Sequence[Mapping[str, Any]] | Mapping[str, Any], where: str) -> list[Settings]:
    """Return every combination of values; of several grids, one after the other, each point once.

    Raises:
        SettingError: If there are none, or a name is none of surgery, steering, data or prompting.
    """
    grids = [options] if isinstance(options, Mapping) else list(options)
    found: list[Settings] = []
    for one in grids:
        lists = {name: value if isinstance(value, list) else [value] for name, value in one.items()}
        if not lists or not all(lists.values()):
            raise SettingError(
                f"{where} is {dict(one)}, in which there is nothing to try.\nA grid takes every combination of values."
                "\nWrite, say, {surgery.scale: [0.1, 0.2, 0.5]}."
            )
        check_names(one, where)
        found += [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    if not found:
        raise SettingError(f"{where} is empty.\nA choice needs something to choose from.\nLeave it out, or fill it.")
    return [point for number, point in enumerate(found) if point not in found[:number]]


def check_names(settings: Mapping[str, Any], where: str) -> None:
    """Refuse settings of anything but surgery, steering, data and prompting."""
    for name in settings:
        if not name.startswith(tuple(f"{part}." for part in PARTS)):
            raise SettingError(
                f"{where} names `{name}`, but a row has settings of {', '.join(PARTS)}.\n"
                "All else is the same for every row, so that they can be compared.\n"
                "Write `surgery.scale`, say; `sa compare --help` lists them."
            )
