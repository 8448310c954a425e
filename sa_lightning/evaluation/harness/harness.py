"""Tasks in, judged samples out: lm-eval asks a model in memory, or any other model of its own."""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sa_lightning.errors import DataError, SaError
from sa_lightning.evaluation.harness.journal import Journal
from sa_lightning.evaluation.harness.prompting import Prompting
from sa_lightning.evaluation.judges.protocol import Judge
from sa_lightning.evaluation.judges.registry import judge_samples, load_judge
from sa_lightning.evaluation.samples import JUDGED_KINDS, Outcome, Sample, Score
from sa_lightning.evaluation.tasks.catalogue import load_tasks, quiet, task_manager, warn

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What lm-eval takes for the most tokens of a reply.
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")

# Per-document metrics of lm-eval's own tasks that say right or wrong, the first found counts.
_CORRECT = ("exact_match", "acc", "em", "mc1")

# Per-document metrics that are a log-likelihood in nats and what it is over, as lm-eval's perplexity tasks give them;
# what the sum of negative log-likelihoods is divided by, and the unit. The first found counts.
_LIKELIHOODS = {
    "word_perplexity": (1.0, "word perplexity"),
    "byte_perplexity": (1.0, "byte perplexity"),
    "bits_per_byte": (math.log(2), "bits per byte"),
}


Loaded = dict[str, tuple[Mapping[str, Any], Mapping[str, dict[str, Judge]]]]
"""Loaded tasks by their names, and the judge of each, by what was asked."""


class Measured(NamedTuple):
    """What lm-eval says of one document of utility: right or wrong, or a score."""

    correct: bool | None = None
    score: Score | None = None


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
    max_new_tokens: int | None = None,
    seed: int = 0,
    progress: bool = False,
    name: str = "",
    report: Callable[[str, int, int], None] | None = None,
    journal: Journal | None = None,
    known: Loaded | None = None,
    prompting: Prompting | None = None,
) -> list[Sample]:
    """Run lm-eval tasks on a model in memory, as it is now: edited in place, or with hooks on it.

    Decoding is the task's (ours are greedy). Prompts go through the tokenizer's chat template; no special token is
    added to what it wrote, but for a BOS token that it lacks and the tokenizer puts before every text (`render`). The
    model's training mode and the tokenizer come back as they were. Where torch.distributed is initialised, every
    process calls this alike, answers a share of the prompts, and gets all samples.

    Args:
        model: A causal language model; it is not copied.
        tokenizer: Its tokenizer, with a chat template and a pad token.
        tasks: Names of tasks, groups or tags: ours, or lm-eval's own (whose index takes some ten
            seconds to build, once).
        task_dirs: Directories of task YAMLs, searched in depth; a later one overrides.
        metadata: Handed to every task, over the YAML's own; see `tasks.prompts`.
        without: Tasks that are left out of the groups and tags, as `missing_tasks` finds them.
        limit: Ask only the first so many documents of each task.
        batch_size: Most prompts that run together; as many as suit the device if not set.
        max_length: Tokens of prompt and reply together; the model's own limit if not set. Longer prompts lose their
            beginning, with a warning that says how many.
        max_new_tokens: Most tokens of a reply, in place of what each task says.
        seed: For few-shot draws and whatever in a task is random; greedy replies need none.
        progress: Show progress bars, with the time left.
        name: What the bars are called: the arm.
        report: Told what is asked, and how many of how many tokens are through.
        journal: Where finished batches are kept, so that a killed run goes on.
        known: Where loaded tasks are kept, for calls that ask the same again: their data are then read once.
        prompting: An instruction for every prompt, or for a contrast with it. Samples say the prompts without it.

    Returns:
        One sample a document, in the order of the tasks and of their documents. Those of judged tasks have the
        verdict of the judge that their `process_results` names; what that function gives lm-eval is not read.

    Raises:
        SaError: If there are no tasks, an unknown one, a task that asks for more new tokens than the
            model has room for, or one that names no judge and says neither right or wrong, nor a number.
        DataError: If a task's data are not at hand.
        ModelError: If a single prompt does not fit in memory, or the chat template drops the instruction.
    """
    from sa_lightning.evaluation.harness.in_memory import InMemoryLM

    if not tokenizer.chat_template:
        raise SaError(
            "The tokenizer has no chat template.\nEvery arm is asked through it.\n"
            "Say how prompts are written: `--template plain`, or the path of a Jinja file."
        )
    training, pad, side = model.training, tokenizer.pad_token, tokenizer.padding_side
    try:
        with quiet():
            lm = InMemoryLM(
                model,
                tokenizer,
                batch_size=batch_size,
                journal=journal,
                progress=name if progress else None,
                report=report,
                max_length=max_length,
                prompting=prompting,
                add_bos_token=False,
            )
        found = evaluate_lm(
            lm,
            tasks,
            task_dirs=task_dirs,
            metadata=metadata,
            without=without,
            limit=limit,
            max_new_tokens=max_new_tokens,
            seed=seed,
            known=known,
        )
    finally:
        model.train(training)
        tokenizer.pad_token, tokenizer.padding_side = pad, side
    if lm.truncated:
        counts = ", ".join(f"{count} of {task}" for task, count in sorted(lm.truncated.items()))
        warn(
            f"Prompts longer than the model's context of {lm.max_length} tokens lose their beginning: {counts}. "
            "Numbers of models with more room are not comparable."
        )
    return [replace(sample, prompt=lm.plain(sample.prompt)) for sample in found]


def evaluate_lm(
    lm: "LM",
    tasks: Sequence[str],
    *,
    task_dirs: Sequence[str | Path],
    metadata: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
    limit: int | None = None,
    max_new_tokens: int | None = None,
    seed: int = 0,
    known: Loaded | None = None,
) -> list[Sample]:
    """Run tasks on any lm-eval model; arguments as in `evaluate`."""
    import lm_eval
    from transformers import set_seed

    asked = json.dumps([list(tasks), [*map(str, task_dirs)], metadata, sorted(without), max_new_tokens], default=str)
    known = {} if known is None else known
    if asked not in known:
        loaded = load_tasks(task_manager(tasks, task_dirs, metadata, without), tasks)
        known[asked] = loaded, {task: _judge_of(task, one) for task, one in loaded.items()}
    loaded, judges = known[asked]
    set_seed(seed)
    for task in loaded.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
        if max_new_tokens is not None and task.OUTPUT_TYPE == "generate_until":
            decoding = {name: value for name, value in task.config.generation_kwargs.items() if name not in _LIMITS}
            task.set_config(key="generation_kwargs", value={**decoding, "max_gen_toks": max_new_tokens})
    # Not simple_evaluate: it runs pip and git on the way, which takes longer than many an arm, and talks.
    run: Any = lm_eval.evaluate  # its decorator hides the signature
    with quiet():
        results = run(
            lm=lm,
            task_dict={"tasks": loaded},
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
        )
    cut: Mapping[tuple[str, int], bool | None] = getattr(lm, "cut", {})  # a model of lm-eval's own does not say
    found: list[Sample] = []
    for task, logged in results["samples"].items():
        # A task may read the same reply through several filters: its first is its headline.
        entries = [entry for entry in logged if entry["filter"] == logged[0]["filter"]]
        entries.sort(key=lambda entry: entry["doc_id"])
        ended = {doc: at for (of, doc), at in cut.items() if of == task}
        samples = list(_samples(loaded[task], task, entries, ended, judged=bool(judges[task])))
        documents = [entry["doc"] for entry in entries]
        found += judge_samples(samples, judges[task], documents=documents)
    return found


def _judge_of(task: str, loaded: Any) -> dict[str, Judge]:
    """Return the judge that a task's `process_results` names, by its name; none for tasks that measure utility.

    A judged task is then silent to lm-eval: its function would read every reply once more.

    Raises:
        SaError: If a task has outcomes for metrics and names no judge: only plain lm-eval could tell them.
    """
    name = getattr(loaded.config.process_results, "judge", None)
    if name is not None:
        loaded.set_config(key="process_results", value=lambda doc, results: {})
        return {name: load_judge(name)}
    metrics = {entry.get("metric") for entry in loaded.config.metric_list or ()}
    if outcomes := metrics & {outcome.value for outcome in Outcome}:
        raise SaError(
            f"{task} has the metrics {', '.join(sorted(outcomes))}, but its `process_results` names no judge.\n"
            "lm-eval takes outcomes from that function; here a judge reads the replies.\n"
            'Name one that `sa judge --help` lists: `process_results.judge = "refusal"`, where the function is.'
        )
    return {}


def _samples(
    loaded: Any, task: str, entries: Sequence[Mapping[str, Any]], cut: Mapping[int, bool | None], *, judged: bool
) -> Iterator[Sample]:
    """Say of each document what was asked and answered, and, where no judge will read it, how it was measured."""
    unit = (loaded.config.metadata or {}).get("unit")
    measured = [Measured()] * len(entries) if judged else _measured(task, entries, unit)
    seen: set[str] = set()
    for entry, measure in zip(entries, measured, strict=True):
        doc, reply = entry["doc"], entry["filtered_resps"][0]
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
            category=str(doc.get("category") or ""),
            cluster=str(doc.get("cluster") or ""),
            attack=str(doc.get("attack") or "direct"),
            prefix=str(loaded.doc_to_prefix(doc) or ""),
            cut=cut.get(entry["doc_id"]),
            correct=measure.correct,
            score=measure.score,
        )


def _kind(task: str, doc: Mapping[str, Any]) -> str:
    if doc.get("kind") not in JUDGED_KINDS:
        raise DataError(
            f"A document of {task} has the kind {doc.get('kind')!r}, not one of {', '.join(JUDGED_KINDS)}.\n"
            "Its kind says which rate its outcome counts for. Let the task's data carry it."
        )
    return doc["kind"]


def _measured(task: str, entries: Sequence[Mapping[str, Any]], unit: str | None) -> list[Measured]:
    """Say of each document whether it is right, or what a task measures that knows no right or wrong.

    A task's metric is the same for all its documents: where one is a fraction, none is right or wrong.
    """
    metrics = entries[0]["metrics"]
    for metric in (*_CORRECT, *_LIKELIHOODS, *metrics):
        values: list[Any] = [entry[metric] for entry in entries] if metric in metrics else [None]
        if metric in _LIKELIHOODS and all(isinstance(value, tuple | list) for value in values):
            divisor, name = _LIKELIHOODS[metric]
            return [Measured(score=Score(-float(nats) / divisor, float(size), name)) for nats, size in values]
        if not all(isinstance(value, int | float) for value in values):
            continue
        if metric in _CORRECT and unit is None and all(value in (0, 1) for value in values):
            return [Measured(correct=bool(value)) for value in values]
        return [Measured(score=Score(float(value), 1.0, unit or metric)) for value in values]
    raise SaError(
        f"{task} says of a document neither what became of it, nor whether it is right, nor a number: {metrics}.\n"
        "Rates count documents, and scores add up over them.\n"
        "Choose a task with an accuracy, an exact match or a perplexity."
    )
