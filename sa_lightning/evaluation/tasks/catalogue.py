"""Which tasks there are, and which of them can be run here: by name, group or tag, ours and lm-eval's own."""

import copy
import dataclasses
import difflib
import json
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from jinja2 import TemplateError
from yaml import YAMLError

from sa_lightning.errors import DataError, SaError
from sa_lightning.evaluation.tasks.foreign import check_directories, hold_back
from sa_lightning.evaluation.tasks.settings import check_task
from sa_lightning.progress import is_first

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

_OF_TASKS = (*(AssertionError, AttributeError, ImportError, LookupError, TypeError, TemplateError, YAMLError),)
_OF_TASKS += (ArithmeticError, RecursionError)  # of a template, which is a program
_DEFAULT_ROOM = 256  # new tokens where a task does not say: lm-eval's own default


def missing_tasks(
    tasks: Sequence[str],
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    *,
    max_new_tokens: int | None = None,
) -> dict[str, str]:
    """Find out, before a model is loaded, which tasks of groups and tags cannot be run here.

    What is not at hand locally is looked for on the Hub, as far as that can be reached.

    Args:
        tasks: As for `evaluate`.
        task_dirs: Likewise.
        metadata: Likewise.
        max_length: Tokens of the model's context; tasks whose replies alone are longer are left out too.
        max_new_tokens: Most tokens of a reply, in place of what each task says.

    Returns:
        Task to the reason, with the ways to get its data; for `evaluate(without=...)`.

    Raises:
        SaError: If there are no tasks, an unknown one, or none is left.
        DataError: If the data of a task that is named itself are not at hand.
    """
    manager = task_manager(tasks, task_dirs, metadata)
    missing: dict[str, str] = {}
    found = 0
    for name in dict.fromkeys(tasks):
        leaves = _leaves(manager, name)
        for leaf in dict.fromkeys(leaves):
            if leaf not in manager.task_index:  # a group that another writes down within itself
                found += 1
                continue
            try:
                (task,) = load_tasks(manager, [leaf]).values()
                said = (task.config.generation_kwargs or {}).get("max_gen_toks", _DEFAULT_ROOM)
                room = int(said if max_new_tokens is None else max_new_tokens)
                if max_length is not None and task.OUTPUT_TYPE == "generate_until" and room >= max_length:
                    raise SaError(no_room(leaf, room, max_length))
                found += 1
            except SaError as error:
                if leaves == [name]:
                    raise
                missing[leaf] = str(error)
    if not found:
        raise DataError(
            f"None of the {len(missing)} tasks of {', '.join(tasks)} can be run here.\n"
            "A model is measured by its replies to their prompts.\n" + "\n".join(dict.fromkeys(missing.values()))
        )
    return missing


def task_manager(
    tasks: Sequence[str],
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
) -> "TaskManager":
    """Return an index that knows every one of the tasks; lm-eval's own are indexed only if need be."""
    if not tasks:
        raise SaError("There are no tasks to run.\nName some, for example `tiny_world_harmful` or `sa_advbench`.")
    directories = tuple(str(Path(directory).resolve()) for directory in task_dirs)
    for directory in directories:
        if not Path(directory).is_dir():
            raise SaError(f"The task directory {directory} does not exist.")
    check_directories(directories)
    handed = json.dumps(dict(metadata or {}), sort_keys=True, default=str)
    ours = _manager(directories, handed, defaults=False)
    needed = {leaf for name in tasks for leaf in (name, *_leaves(ours, name))}
    manager = ours if needed <= set(ours.all_tasks) else _manager(directories, handed, defaults=True)
    unknown = [task for task in tasks if task not in set(manager.all_tasks)]
    if unknown:
        near = {task: difflib.get_close_matches(task, manager.all_tasks, n=3) for task in unknown}
        raise SaError(
            "\n".join(
                f"There is no task {task!r}." + (f" Did you mean {', '.join(names)}?" if names else "")
                for task, names in near.items()
            )
            + "".join(f"\n{path} is no task: {reason}" for path, reason in _unreadable(directories).items())
            + f"\nOurs are: {', '.join(ours.all_subtasks)}."
        )
    return _without(manager, without) if without else manager


def leaves(tasks: Sequence[str], task_dirs: Sequence[str | Path]) -> dict[str, list[str]]:
    """Return the tasks that each name stands for, groups and tags resolved, without reading any data.

    Raises:
        SaError: If a name is unknown.
    """
    manager = task_manager(tasks, task_dirs)
    return {name: _leaves(manager, name) for name in dict.fromkeys(tasks)}


@lru_cache(maxsize=4)
def _manager(directories: tuple[str, ...], metadata: str, *, defaults: bool) -> "TaskManager":
    from lm_eval.tasks import TaskManager

    hold_back()
    try:
        with quiet():
            return TaskManager(include_path=list(directories), include_defaults=defaults, metadata=json.loads(metadata))
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"The tasks in {', '.join(directories)} cannot be listed: {error}\n"
            "Each file of a task gives it a name, which is text.\nMend the file, or leave its directory out."
        ) from error


def _unreadable(directories: Sequence[str]) -> dict[str, str]:
    """Task files that are no YAML, which lm-eval passes over: path to reason."""
    from lm_eval.tasks._yaml_loader import load_yaml

    found = {}
    for path in (path for directory in directories for path in sorted(Path(directory).rglob("*.yaml"))):
        try:
            settings = load_yaml(path, resolve_func=False, recursive=False)
            if not isinstance(settings, dict):
                found[str(path)] = "it is no mapping."
        except (YAMLError, UnicodeDecodeError, OSError, ValueError, TypeError) as error:
            found[str(path)] = " ".join(str(error).split())
    return found


def _leaves(manager: "TaskManager", name: str) -> list[str]:
    """Names of the tasks in a group or tag, those of groups inside included; of a task, itself."""
    entry = manager.task_index.get(name)
    if entry is None:
        return [name]
    members = sorted(entry.tags) if entry.kind.name == "TAG" else _members(entry)
    return [leaf for member in members for leaf in _leaves(manager, member)] if members else [name]


def _members(entry: Any) -> list[str]:
    listed = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else None
    return [_called(member) for member in listed] if isinstance(listed, list) else []


def _called(member: Any) -> str:
    return member if isinstance(member, str) else member.get("group") or member["task"]


def _without(manager: "TaskManager", names: Collection[str]) -> "TaskManager":
    """The same index, whose groups and tags lack some tasks, and groups of which nothing is left."""
    gone = set(names)
    gone |= {name for name in manager.task_index if name not in gone and gone.issuperset(_leaves(manager, name))}
    index = {}
    for name, entry in manager.task_index.items():
        if entry.kind.name == "TAG":
            entry = dataclasses.replace(entry, tags=entry.tags - gone)
        elif _members(entry):
            settings: Any = entry.cfg  # a mapping wherever there are members
            kept = [member for member in settings["task"] if _called(member) not in gone]
            if len(kept) < len(settings["task"]):
                # Of an entry without a file, lm-eval takes the settings that are here.
                entry = dataclasses.replace(entry, cfg={**settings, "task": kept}, yaml_path=None)
        index[name] = entry
    found = copy.copy(manager)
    found._index = index
    return found


def load_tasks(manager: "TaskManager", names: Sequence[str]) -> dict[str, Any]:
    """Load tasks with their data, by name, groups and tags resolved.

    Raises:
        DataError: If the data of one are not at hand or not such as it reads, or too few for its demonstrations.
    """
    from jinja2 import TemplateError

    loaded: dict[str, Any] = {}
    try:
        with quiet():
            for name in dict.fromkeys(names):
                found: Any = manager.load([name])["tasks"]
                known = [task for task in found if task in loaded]
                other = [task for task in known if loaded[task].dump_config() != found[task].dump_config()]
                if other:
                    more = f" and {len(other) - 1} more are" if len(other) > 1 else " is"
                    warn(f"{other[0]}{more} run once, as named first, not with the settings of {name}.")
                loaded |= {task: found[task] for task in found if task not in loaded}
            for task, found in loaded.items():
                check_task(task, found)
                _check_demonstrations(task, found)
        return loaded
    except SaError:
        raise
    except (*_OF_TASKS, OSError, ValueError, TemplateError) as error:
        message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not isinstance(error, OSError | ValueError):  # their messages are a word or two
            message = f"{type(error).__name__}: {message}"
        of_hub = (
            "Tasks of lm-eval's own take their data from the Hugging Face Hub.\n"
            "Be online, without HF_HUB_OFFLINE, once, or have the data set in the Hub cache."
        )
        of_template = "Templates of tasks run in a sandbox: they may use the document and no more.\nMend the template."
        of_function = (
            "Its data are not such as it reads, or its metadata name what is not there.\n"
            "Fetch the data set again, or change the metadata; `sa data` says where each data set lies."
        )
        import lm_eval.tasks as tasks_of_lm_eval

        written = [
            str(entry.yaml_path) for name in names if (entry := manager.task_index.get(name)) and entry.yaml_path
        ]
        package = str(Path(tasks_of_lm_eval.__file__).parent)
        if isinstance(error, _OF_TASKS) and written and not written[0].startswith(package):
            of_hub = f"Its settings, or its data, are none that lm-eval can run.\nMend {written[0]}."
        ours = all(_has_data_of_its_own(manager, leaf) for name in names for leaf in _leaves(manager, name))
        advice = of_template if isinstance(error, TemplateError) else of_function if ours else of_hub
        raise DataError(f"{', '.join(names)} could not be loaded: {message}\n{advice}") from error


def _has_data_of_its_own(manager: "TaskManager", task: str) -> bool:
    """Whether a function of ours or the user's gives a task its data, rather than the Hub."""
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = manager.task_index.get(task)
    if entry is None:
        return False
    config = load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else entry.cfg or {}
    return "custom_dataset" in config


def _check_demonstrations(name: str, task: Any) -> None:
    """Refuse a task whose data hold fewer demonstrations than it gives; lm-eval finds out at the first prompt."""
    from lm_eval.api.samplers import ContextSampler

    wanted, sampler = task.config.num_fewshot or 0, getattr(task, "sampler", None)
    if not wanted or sampler is None:
        return
    # Where a document could be its own demonstration, lm-eval's sampler draws one more.
    spare = type(sampler) is ContextSampler and task.fewshot_cfg.split == task.config.test_split
    if len(sampler.df or ()) < wanted + spare:
        raise DataError(
            f"{name} gives {wanted} demonstrations, but its data hold {len(sampler.df or ())} to choose from.\n"
            "Numbers of fewer demonstrations are not comparable.\nFetch the whole data set, or leave this task out."
        )


def no_room(task: str, wanted: int, max_length: int) -> str:
    """Say that a task's replies alone fill the model's context."""
    return (
        f"{task} asks for up to {wanted} new tokens, but the model's context is {max_length}.\n"
        "No room is left for the prompt.\n"
        "Leave this task out, allow fewer (`--evaluation.max_new_tokens`), or raise `max_length` if the model can take "
        "more."
    )


def warn(message: str) -> None:
    """Warn, in the first of several processes."""
    if is_first():
        warnings.warn(message, stacklevel=3)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back lm-eval's log below errors, and its bars: ours say more."""
    from lm_eval.api import task

    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    bars: Any = task.tqdm
    hidden = partialmethod(bars.__init__, disable=True)
    try:
        with mock.patch.object(bars, "__init__", hidden):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
