"""Tasks in, judged samples out: lm-eval asks a model in memory, or any other model of its own."""

import copy
import dataclasses
import difflib
import json
import logging
import math
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from sa_lightning.errors import DataError, SaError
from sa_lightning.evaluation.journal import Journal
from sa_lightning.evaluation.samples import JUDGED_KINDS, Outcome, Sample, Score, Verdict

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Per-document metrics of lm-eval's own tasks that say right or wrong, the first found counts.
_CORRECT = ("exact_match", "acc", "em", "mc1")

# Per-document metrics that are a log-likelihood in nats and what it is over, as lm-eval's perplexity tasks give them;
# what the sum of negative log-likelihoods is divided by, and the unit. The first found counts.
_LIKELIHOODS = {
    "word_perplexity": (1.0, "word perplexity"),
    "byte_perplexity": (1.0, "byte perplexity"),
    "bits_per_byte": (math.log(2), "bits per byte"),
}
_DEFAULT_ROOM = 256  # new tokens where a task does not say: lm-eval's own default


def evaluate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[str],
    *,
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
    limit: int | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    seed: int = 0,
    progress: bool = False,
    name: str = "",
    journal: Journal | None = None,
) -> list[Sample]:
    """Run lm-eval tasks on a model in memory, as it is now: edited in place, or with hooks on it.

    Decoding is the task's (ours are greedy). Prompts go through the tokenizer's chat template,
    which alone decides about special tokens: none is added to what it wrote. The model's
    training mode and the tokenizer come back as they were. Where torch.distributed is initialised, every process
    calls this alike, answers a share of the prompts, and gets all samples.

    Args:
        model: A causal language model; it is not copied.
        tokenizer: Its tokenizer, with a chat template and a pad token.
        tasks: Names of tasks, groups or tags: ours, or lm-eval's own (whose index takes some ten
            seconds to build, once).
        task_dirs: Directories of task YAMLs, searched in depth; a later one overrides.
        metadata: Handed to every task, over the YAML's own; see `datasets`.
        without: Tasks that are left out of the groups and tags, as `missing_tasks` finds them.
        limit: Ask only the first so many documents of each task.
        batch_size: Most prompts that run together; as many as suit the device if not set.
        max_length: Tokens of prompt and reply together; the model's own limit if not set. Longer prompts lose their
            beginning, with a warning that says how many.
        seed: For few-shot draws and whatever in a task is random; greedy replies need none.
        progress: Show progress bars, with the time left.
        name: What the bars are called: the arm.
        journal: Where finished batches are kept, so that a killed run goes on.

    Returns:
        One sample a document, in the order of the tasks and of their documents.

    Raises:
        SaError: If there are no tasks, an unknown one, a task that asks for more new tokens than the
            model has room for, or one that says neither an outcome, nor right or wrong, nor a number.
        DataError: If a task's data are not at hand.
        ModelError: If a single prompt does not fit in memory.
    """
    from sa_lightning.evaluation.lm import InMemoryLM

    if not tokenizer.chat_template:
        raise SaError(
            "The tokenizer has no chat template.\nEvery arm is asked through it.\n"
            "Say how prompts are written: `--template plain`, or the path of a Jinja file."
        )
    training, pad, side = model.training, tokenizer.pad_token, tokenizer.padding_side
    try:
        with _quiet():
            lm = InMemoryLM(
                model,
                tokenizer,
                batch_size=batch_size,
                journal=journal,
                progress=name if progress else None,
                max_length=max_length,
                add_bos_token=False,
            )
        found = evaluate_lm(lm, tasks, task_dirs=task_dirs, metadata=metadata, without=without, limit=limit, seed=seed)
    finally:
        model.train(training)
        tokenizer.pad_token, tokenizer.padding_side = pad, side
    if lm.truncated:
        counts = ", ".join(f"{count} of {task}" for task, count in sorted(lm.truncated.items()))
        _warn(
            f"Prompts longer than the model's context of {lm.max_length} tokens lose their beginning: {counts}. "
            "Numbers of models with more room are not comparable."
        )
    return found


def evaluate_lm(
    lm: "LM",
    tasks: Sequence[str],
    *,
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> list[Sample]:
    """Run tasks on any lm-eval model; arguments as in `evaluate`."""
    import lm_eval
    from transformers import set_seed

    loaded = _load(task_manager(tasks, task_dirs, metadata, without), tasks)
    set_seed(seed)
    for task in loaded.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    # Not simple_evaluate: it runs pip and git on the way, which takes longer than many an arm, and talks.
    run: Any = lm_eval.evaluate  # its decorator hides the signature
    with _quiet():
        results = run(
            lm=lm,
            task_dict={"tasks": loaded},
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
        )
    return [sample for task, logged in results["samples"].items() for sample in _samples(loaded[task], task, logged)]


def missing_tasks(
    tasks: Sequence[str],
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    max_length: int | None = None,
) -> dict[str, str]:
    """Find out, before a model is loaded, which tasks of groups and tags cannot be run here.

    What is not at hand locally is looked for on the Hub, as far as that can be reached.

    Args:
        tasks: As for `evaluate`.
        task_dirs: Likewise.
        metadata: Likewise.
        max_length: Tokens of the model's context; tasks whose replies alone are longer are left out too.

    Returns:
        Task to the reason, with the ways to get its data; for `evaluate(without=...)`.

    Raises:
        SaError: If there are no tasks, an unknown one, or none is left.
        DataError: If the data of a task that is named itself are not at hand.
    """
    from sa_lightning.evaluation.lm import no_room

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
                (task,) = _load(manager, [leaf]).values()
                room = int((task.config.generation_kwargs or {}).get("max_gen_toks", _DEFAULT_ROOM))
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
            + f"\nOurs are: {', '.join(ours.all_subtasks)}."
        )
    return _without(manager, without) if without else manager


@lru_cache(maxsize=4)
def _manager(directories: tuple[str, ...], metadata: str, *, defaults: bool) -> "TaskManager":
    from lm_eval.tasks import TaskManager

    with _quiet():
        return TaskManager(include_path=list(directories), include_defaults=defaults, metadata=json.loads(metadata))


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
            kept = [member for member in entry.cfg["task"] if _called(member) not in gone]  # type: ignore[index]
            if len(kept) < len(entry.cfg["task"]):  # type: ignore[index]
                # Of an entry without a file, lm-eval takes the settings that are here.
                entry = dataclasses.replace(entry, cfg={**entry.cfg, "task": kept}, yaml_path=None)  # type: ignore[dict-item]
        index[name] = entry
    found = copy.copy(manager)
    found._index = index
    return found


def _load(manager: "TaskManager", names: Sequence[str]) -> dict[str, Any]:
    """Load tasks with their data, by name, groups and tags resolved."""
    loaded: dict[str, Any] = {}
    try:
        with _quiet():
            for name in dict.fromkeys(names):
                found: Any = manager.load([name])["tasks"]
                known = [task for task in found if task in loaded]
                other = [task for task in known if loaded[task].dump_config() != found[task].dump_config()]
                if other:
                    more = f" and {len(other) - 1} more are" if len(other) > 1 else " is"
                    _warn(f"{other[0]}{more} run once, as named first, not with the settings of {name}.")
                loaded |= {task: found[task] for task in found if task not in loaded}
        return loaded
    except SaError:
        raise
    except (OSError, ValueError) as error:
        message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{', '.join(names)} could not be loaded: {message}\n"
            "Tasks of lm-eval's own take their data from the Hugging Face Hub.\n"
            "Be online, without HF_HUB_OFFLINE, once, or have the data set in the Hub cache."
        ) from error


def _samples(loaded: Any, task: str, logged: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    # A task may judge the same reply through several filters: its first is its headline.
    first = [entry for entry in logged if entry["filter"] == logged[0]["filter"]]
    judged = Outcome.UNJUDGED.value in first[0]["metrics"]
    measured = [{}] * len(first) if judged else _measured(task, first, (loaded.config.metadata or {}).get("unit"))
    judge = getattr(loaded.config.process_results, "__name__", task).removeprefix("process_")  # as `JUDGES` names it
    seen: set[str] = set()
    for entry, found in sorted(zip(first, measured, strict=True), key=lambda pair: pair[0]["doc_id"]):
        doc, reply = entry["doc"], entry["filtered_resps"][0]
        name = str(doc.get("id", entry["doc_id"])) if judged or doc.get("kind") == "utility" else str(entry["doc_id"])
        if name in seen:
            raise DataError(f"{task} has two documents with the id {name!r}, so replies cannot be told apart.")
        seen.add(name)
        outcome = next(outcome for outcome in Outcome if entry[outcome.value] == 1) if judged else None
        yield Sample(
            task=task,
            kind=_kind(task, doc) if judged else "utility",
            id=name,
            prompt=str(doc["prompt"]) if "prompt" in doc else str(entry["arguments"][0][0]),
            reply=reply if isinstance(reply, str) else "",
            outcome=outcome,
            category=str(doc.get("category") or ""),
            cluster=str(doc.get("cluster") or ""),
            attack=str(doc.get("attack") or "direct"),
            verdicts={judge: Verdict(outcome)} if outcome is not None else {},
            **found,
        )


def _kind(task: str, doc: Mapping[str, Any]) -> str:
    if doc.get("kind") not in JUDGED_KINDS:
        raise DataError(
            f"A document of {task} has the kind {doc.get('kind')!r}, not one of {', '.join(JUDGED_KINDS)}.\n"
            "Its kind says which rate its outcome counts for. Let the task's data carry it."
        )
    return doc["kind"]


def _measured(task: str, entries: Sequence[Mapping[str, Any]], unit: str | None) -> list[dict[str, Any]]:
    """Say of each document whether it is right, or what a task measures that knows no right or wrong.

    A task's metric is the same for all its documents: where one is a fraction, none is right or wrong.
    """
    metrics = entries[0]["metrics"]
    for metric in (*_CORRECT, *_LIKELIHOODS, *metrics):
        values: list[Any] = [entry[metric] for entry in entries] if metric in metrics else [None]
        if metric in _LIKELIHOODS and all(isinstance(value, tuple | list) for value in values):
            divisor, name = _LIKELIHOODS[metric]
            return [{"score": Score(-float(nats) / divisor, float(size), name)} for nats, size in values]
        if not all(isinstance(value, int | float) for value in values):
            continue
        if metric in _CORRECT and unit is None and all(value in (0, 1) for value in values):
            return [{"correct": bool(value)} for value in values]
        return [{"score": Score(float(value), 1.0, unit or metric)} for value in values]
    raise SaError(
        f"{task} says of a document neither what became of it, nor whether it is right, nor a number: {metrics}.\n"
        "Rates count documents, and scores add up over them.\n"
        "Choose a task with an accuracy, an exact match or a perplexity."
    )


def _warn(message: str) -> None:
    """Warn, in the first of several processes."""
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        warnings.warn(message, stacklevel=3)


@contextmanager
def _quiet() -> Iterator[None]:
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
