"""Our model as an lm-eval model: tasks in, judged samples out. The only file that imports lm_eval."""

import difflib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from sa_lightning.errors import DataError, SaError
from sa_lightning.evaluation.samples import JUDGED_KINDS, Outcome, Sample

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Per-document metrics of lm-eval's own tasks that say right or wrong, the first found counts.
_CORRECT = ("exact_match", "acc", "em", "mc1")


def evaluate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[str],
    *,
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> list[Sample]:
    """Run lm-eval tasks on a model in memory, as it is now: edited in place, or with hooks on it.

    Decoding is the task's (ours are greedy). Prompts go through the tokenizer's chat template,
    which alone decides about special tokens: none is added to what it wrote. The model's
    training mode and the tokenizer come back as they were.

    Args:
        model: A causal language model; it is not copied.
        tokenizer: Its tokenizer, with a chat template and a pad token.
        tasks: Names of tasks, groups or tags: ours, or lm-eval's own (whose index takes some ten
            seconds to build, once).
        task_dirs: Directories of task YAMLs, searched in depth; a later one overrides.
        metadata: Handed to every task, over the YAML's own; see `datasets`.
        limit: Ask only the first so many documents of each task.
        batch_size: Documents a batch.
        max_length: Tokens of prompt and reply together; the model's own limit if not set.
        seed: For few-shot draws and whatever in a task is random; greedy replies need none.
        progress: Show lm-eval's progress bars, with the time left.

    Returns:
        One sample a document, in the order of the tasks and of their documents.

    Raises:
        SaError: If there are no tasks, an unknown one, a task that asks for more new tokens than the
            model has room for, or one that says neither an outcome nor right or wrong.
        DataError: If a task's data are not at hand.
    """
    from lm_eval.models import huggingface

    hflm: Any = huggingface.HFLM  # its decorators hide the signature from type checkers

    class InMemory(hflm):  # lm-eval shows its bars unless each call is told otherwise
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            for request in requests:
                _check_room(request, self.max_length)
            return super().generate_until(requests, disable_tqdm=disable_tqdm or not progress)

    if not tokenizer.chat_template:
        raise SaError(
            "The tokenizer has no chat template.\nEvery arm is asked through it.\n"
            "Say how prompts are written: `--template plain`, or the path of a Jinja file."
        )
    training, pad, side = model.training, tokenizer.pad_token, tokenizer.padding_side
    try:
        with _quiet(progress):
            lm = InMemory(
                pretrained=model,
                tokenizer=tokenizer,
                backend="causal",
                batch_size=batch_size,
                max_length=max_length,
                add_bos_token=False,
            )
            return evaluate_lm(
                lm, tasks, task_dirs=task_dirs, metadata=metadata, limit=limit, seed=seed, progress=progress
            )
    finally:
        model.train(training)
        tokenizer.pad_token, tokenizer.padding_side = pad, side


def evaluate_lm(
    lm: "LM",
    tasks: Sequence[str],
    *,
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> list[Sample]:
    """Run tasks on any lm-eval model; arguments as in `evaluate`."""
    import lm_eval

    manager = task_manager(tasks, task_dirs, metadata)
    # Under a launcher lm-eval returns nothing in any process but the first; here each has its own arm.
    with _quiet(progress), mock.patch.dict(os.environ, {"LOCAL_RANK": "0"}):
        simple_evaluate: Any = lm_eval.simple_evaluate  # its decorator hides the signature too
        results = simple_evaluate(
            model=lm,
            tasks=list(dict.fromkeys(tasks)),
            task_manager=manager,
            limit=limit,
            apply_chat_template=True,
            log_samples=True,
            bootstrap_iters=0,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    return [sample for name, logged in results["samples"].items() for sample in _samples(name, logged)]


def task_manager(
    tasks: Sequence[str], task_dirs: Sequence[str | Path], metadata: Mapping[str, Any] | None = None
) -> "TaskManager":
    """Return an index that knows every one of the tasks; lm-eval's own are indexed only if need be."""
    if not tasks:
        raise SaError("There are no tasks to run.\nName some, for example `tiny_world_harmful` or `sa_advbench`.")
    directories = tuple(str(Path(directory).resolve()) for directory in task_dirs)
    for directory in directories:
        if not Path(directory).is_dir():
            raise SaError(f"The task directory {directory} does not exist.")
    handed = json.dumps(dict(metadata or {}), sort_keys=True, default=str)
    manager = _manager(directories, handed, defaults=False)
    if set(tasks) <= set(manager.all_tasks):
        return manager
    everything = _manager(directories, handed, defaults=True)
    unknown = [task for task in tasks if task not in set(everything.all_tasks)]
    if unknown:
        near = {task: difflib.get_close_matches(task, everything.all_tasks, n=3) for task in unknown}
        raise SaError(
            "\n".join(
                f"There is no task {task!r}." + (f" Did you mean {', '.join(names)}?" if names else "")
                for task, names in near.items()
            )
            + f"\nOurs are: {', '.join(manager.all_subtasks)}."
        )
    return everything


@lru_cache(maxsize=4)
def _manager(directories: tuple[str, ...], metadata: str, *, defaults: bool) -> "TaskManager":
    from lm_eval.tasks import TaskManager

    with _quiet(progress=False):
        return TaskManager(include_path=list(directories), include_defaults=defaults, metadata=json.loads(metadata))


def _samples(task: str, logged: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    # A task may judge the same reply through several filters: its first is its headline.
    first = [entry for entry in logged if entry["filter"] == logged[0]["filter"]]
    seen: set[str] = set()
    for entry in sorted(first, key=lambda entry: entry["doc_id"]):
        doc, reply = entry["doc"], entry["filtered_resps"][0]
        judged = Outcome.UNJUDGED.value in entry["metrics"]
        name = str(doc.get("id", entry["doc_id"])) if judged or doc.get("kind") == "utility" else str(entry["doc_id"])
        if name in seen:
            raise DataError(f"{task} has two documents with the id {name!r}, so replies cannot be told apart.")
        seen.add(name)
        yield Sample(
            task=task,
            kind=_kind(task, doc) if judged else "utility",
            id=name,
            prompt=str(doc["prompt"]) if "prompt" in doc else str(entry["arguments"][0][0]),
            reply=reply if isinstance(reply, str) else "",
            outcome=next(outcome for outcome in Outcome if entry[outcome.value] == 1) if judged else None,
            correct=None if judged else _correct(task, entry),
        )


def _kind(task: str, doc: Mapping[str, Any]) -> str:
    if doc.get("kind") not in JUDGED_KINDS:
        raise DataError(
            f"A document of {task} has the kind {doc.get('kind')!r}, not one of {', '.join(JUDGED_KINDS)}.\n"
            "Its kind says which rate its outcome counts for. Let the task's data carry it."
        )
    return doc["kind"]


def _correct(task: str, entry: Mapping[str, Any]) -> bool:
    for metric in _CORRECT:
        if metric in entry["metrics"] and entry[metric] in (0, 1):
            return bool(entry[metric])
    raise SaError(
        f"{task} says of a document neither what became of it nor whether it is right: {entry['metrics']}.\n"
        "Rates count documents. Choose a task with an accuracy or an exact match."
    )


def _check_room(request: Any, max_length: int) -> None:
    wanted = request.args[1].get("max_gen_toks") or 0
    if wanted >= max_length:
        raise SaError(
            f"{request.task_name} asks for up to {wanted} new tokens, but the model's context is {max_length}.\n"
            "No room is left for the prompt. Leave this task out, or raise `max_length` if the model can take more."
        )


@contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Hold back lm-eval's log below errors, and its bars unless wanted."""
    from lm_eval.api import task

    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    bars: Any = task.tqdm
    hidden = partialmethod(bars.__init__, disable=True)
    try:
        if progress:
            yield
        else:
            with mock.patch.object(bars, "__init__", hidden):
                yield
    finally:
        logger.setLevel(level)
