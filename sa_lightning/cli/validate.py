"""`sa validate`: measure every arm from one loaded model, under identical greedy decoding."""

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import Progress, TaskID
from typing_extensions import override

from sa_lightning.callbacks import EvaluationCallback, SteeringCallback
from sa_lightning.cli.common.verb import VerbCLI
from sa_lightning.datamodules import ARMS, ARMS_APART, ArmDataModule
from sa_lightning.errors import ArtifactError, IncompleteError, SaError, SettingError
from sa_lightning.evaluation import (
    agreements,
    evaluate,
    markdown,
    paired,
    paired_scores,
    results_json,
    summarise,
    table,
    write_html,
    write_results,
)
from sa_lightning.evaluation.harness.journal import Journal, remove_journals, write_replies
from sa_lightning.evaluation.harness.settings import EvaluationSettings
from sa_lightning.evaluation.judges.answer_cache import Answers
from sa_lightning.evaluation.judges.protocol import Judge
from sa_lightning.evaluation.judges.registry import JUDGES, judge_samples, load_judge
from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.judges.rubrics import RUBRICS
from sa_lightning.evaluation.report.tables import reply_lines
from sa_lightning.evaluation.statistics.changes import warnings
from sa_lightning.evaluation.tasks.catalogue import missing_tasks
from sa_lightning.files import write_whole
from sa_lightning.foreign.showing import shown
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.models import quantization_of, template_arguments
from sa_lightning.outputs import UNFINISHED, Output
from sa_lightning.progress import Report, lines, say
from sa_lightning.resources import shipped
from sa_lightning.steering import PAIRS, Rule, weights_fingerprint

RESULTS = ("results.json", "report.html", "results.md", "replies.jsonl")
TASKS_OWN = {"dataset", "kind", "only", "parts", "version"}  # metadata that make a task what it is
ARM_NAMES = {arm.name for arm in (*ARMS, *ARMS_APART)}


@dataclass
class ReportSettings(EvaluationSettings):
    """What is asked, how replies are judged, and what the report shows of them.

    Args:
        judges: Further judges that read the replies once they are there, such as `phrases.gcg` or `harmbench`; their
            agreement is in the report. `sa judge --help` names them all; it also reads OUTPUT/replies.jsonl later, and
            knows models behind a server.
        show_replies: Show replies to harmful prompts in the report, folded. If not set, they are hidden there, and
            only replies to prompts that ask for no harm are shown, of the prompts in which arms differ.
    """

    judges: list[str] = field(default_factory=list)
    show_replies: bool = False


class ValidateCLI(VerbCLI):
    """Measure every arm: attack success, refusals, utility, degenerate replies, each with n and an interval.

    Writes OUTPUT/results.json, OUTPUT/report.html, OUTPUT/results.md (a table for a model card, which a whole run also
    puts into README.md of the artifact, unless somebody has changed that since it was written), and
    OUTPUT/replies.jsonl with every reply that was judged, for `sa judge`: replies to harmful prompts too, so only the
    file's owner may read it. The arms are original, steered, edited and edited+steered, as far as the artifact allows;
    without an artifact, the original alone; `--data.gates_apart true` tells steering without and with gates apart. It
    says of each how many replies changed at all, and how many were cut at the length limit. What is finished is kept in
    OUTPUT/unfinished at once: the same command goes on where it was interrupted. Several processes
    (`--trainer.devices`) share the prompts, and find the same numbers as one.
    """

    missing: Mapping[str, str] = {}
    results: Any = None  # once all arms are measured

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--artifact", type=str | None, default=None, help="Short for --steering.artifact.")
        parser.add_argument("--limit", type=int | None, default=None, help="Short for --evaluation.limit.")
        parser.add_lightning_class_args(SteeringCallback, "steering")
        parser.add_class_arguments(ReportSettings, "evaluation")

    @override
    def check(self, config: Any) -> None:
        config.steering.artifact = config.artifact or config.steering.artifact
        if config.limit is not None:
            config.evaluation.limit = config.limit
        if config.steering.strength is not None and not config.steering.artifact:
            raise SettingError(
                f"`--steering.strength {config.steering.strength}` has nothing to act on: no artifact is given.\n"
                "The original alone would be measured.\nGive `--artifact DIR/artifact`, or leave the strength out."
            )
        if fixed := sorted(TASKS_OWN & set(config.evaluation.metadata or {})):
            raise SettingError(
                f"`--evaluation.metadata` sets {', '.join(fixed)}, which each task says for itself.\n"
                "Set for all tasks alike, prompts would count for the wrong rate.\n"
                "Leave it out, or write a task of your own (`--evaluation.task_dirs`)."
            )
        if not config.evaluation.tasks:
            raise SaError(
                "There are no tasks to run.\nAn arm is measured by the replies to their prompts.\n"
                "Name some: `--evaluation.tasks '[sa_advbench, sa_xstest_safe]'`."
            )
        # What an interrupted run has written lies beside its replies, and results.json is the last.
        done = RESULTS[:1] if os.path.isdir(Path(config.output) / UNFINISHED) else RESULTS
        names = [*RESULTS, "validate.json", "validate.yaml"]
        self.output = Output(config.output, "validate", names, done=done, overwrite=config.overwrite)

    @override
    def callbacks(self) -> list[Callback]:
        arms = self.arms(self.config_init.steering)
        settings = self.config_init.evaluation
        self.weights: dict[str, str] = {}
        self.answers = Answers(self.unfinished / "answers.jsonl")
        self.judges = {name: _judge(name, self.answers) for name in settings.judges}
        self.missing = missing_tasks(
            settings.tasks,
            self.task_dirs,
            settings.metadata,
            self.model.max_length,
            max_new_tokens=settings.max_new_tokens,
        )
        _say_missing(self.missing)
        return [*arms, EvaluationCallback(self.evaluate, self.finish)]

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self.shows_progress = self.config.trainer.enable_progress_bar is not False and sys.stderr.isatty()
        # Lightning's bar counts arms; ours show how far an arm has come, and the time left.
        return super().instantiate_trainer(enable_progress_bar=False, **kwargs)

    @property
    def task_dirs(self) -> list[str]:
        """Where tasks are looked for: ours, then the user's."""
        return [str(shipped("tasks")), *self.config_init.evaluation.task_dirs]

    def evaluate(self, model: Any, arm: Any) -> list[Any]:
        """Run the tasks on the model as it is now."""
        settings = self.config_init.evaluation
        with lines(f"arm {arm.name}") as report:
            return self._evaluate(model, arm, settings, report)

    def _evaluate(self, model: Any, arm: Any, settings: Any, report: Report) -> list[Any]:
        return evaluate(
            model,
            self.model.tokenizer,
            settings.tasks,
            task_dirs=self.task_dirs,
            metadata=settings.metadata,
            without=self.missing,
            limit=settings.limit,
            batch_size=settings.batch_size,
            max_length=self.model.max_length,
            max_new_tokens=settings.max_new_tokens,
            seed=self.config.seed_everything,
            progress=self.shows_progress,
            name=arm.name,
            report=report,
            journal=Journal(self.unfinished, arm.name, self.state(model, arm), self.trainer.global_rank),
        )

    def beside(self) -> dict[str, Any]:
        """What goes into the chat template beside conversations, as far as there is any."""
        found = {"template_arguments": template_arguments(self.model.tokenizer)}
        return {name: one for name, one in (found | {"system_prompt": self.model.system_prompt}).items() if one}

    @property
    def unfinished(self) -> Path:
        """Where the replies of this run are until its results are written."""
        return Path(self.config.output) / UNFINISHED

    def state(self, model: Any, arm: Any) -> dict[str, object]:
        """Return what replies depend on besides prompts: the weights as they are now, and what acts on them."""
        artifact = self.config_init.steering.artifact
        steering = None
        if arm.steered:
            steering = [artifact.digest(), self.config_init.steering.strength, arm.control]
            steering += [] if arm.gated else ["without gates"]
        self.weights[arm.name] = weights_fingerprint(model)
        return {
            **self.beside(),  # unfinished runs of before have no such keys
            "weights": self.weights[arm.name],
            "device": model.device.type,
            "steering": steering,
            "template": self.model.tokenizer.chat_template,
            "seed": self.config.seed_everything,
            "versions": self.provenance.versions,
        }

    def finish(self, samples: dict[str, list[Any]]) -> None:
        """Write everything, replies first: a results.json says that a run is complete."""
        if unmeasured := [arm.name for arm in self.datamodule.arms if arm.name not in samples]:
            raise IncompleteError(f"The arms {', '.join(unmeasured)} were not measured; no results were written.")
        with _bars(shown=self.shows_progress) as report:
            # All arms at once: a judge that is a model is loaded once, and asked once where arms say the same.
            everything = [sample for found in samples.values() for sample in found]
            judged = iter(judge_samples(everything, self.judges, report))
            samples = {arm: list(islice(judged, len(found))) for arm, found in samples.items()}
        output = Path(self.config.output)
        self.output.discard("results.json")  # an old one must not stand beside new files
        write_replies(samples, output / "replies.jsonl")
        self.report(samples)
        self.answers.remove()
        remove_journals(self.unfinished)

    def is_whole(self) -> bool:
        """Whether this run measured the artifact as it is: all arms, all prompts, its own strength, no controls."""
        config = self.config
        return (
            Path(config.steering.artifact).is_dir()
            and config.steering.strength is None
            and config.evaluation.limit is None
            and config.data.arms is None
            and config.data.random_directions == 0
        )

    def hashes(self) -> dict[str, str]:
        """Return what was measured, by its hash: weights, and what the directions were fitted on."""
        artifact = self.config_init.steering.artifact
        found = {f"weights, {arm}": digest for arm, digest in self.weights.items() if arm in ("original", "edited")}
        if artifact is not None:
            fitted = {f"weights that directions were fitted on, {name}": d for name, d in artifact.fingerprints.items()}
            found |= {**fitted, "demonstrations": artifact.demonstrations.get("sha256", "unknown")}
        return found

    def report(self, samples: dict[str, list[Any]]) -> None:
        """Write results.json, report.html and results.md, and the table of a whole run into the artifact's card."""
        output, seed = Path(self.config.output), self.config.seed_everything
        # Controls stand beside the arms; a test against each of them would drown the others.
        named = {name: found for name, found in samples.items() if name in ARM_NAMES}
        artifact, strength = self.config_init.steering.artifact, self.config_init.steering.strength
        control = [] if artifact is None else artifact.controls()
        original = samples.get("original")
        arms = {
            name: summarise(found, seed, None if name == "original" else original) for name, found in samples.items()
        }
        results = results_json(
            arms=arms,
            paired=paired(named, seed),
            paired_scores=paired_scores(named, seed),
            agreement=agreements(sample for found in named.values() for sample in found),
            missing=self.missing,
            hashes=self.hashes(),
            control=control,
            warnings=[
                *([self.template_warning] if self.template_warning else []),
                *warnings(
                    arms,
                    strength if artifact is None or artifact.first is None else artifact.first.strength,
                    gated=artifact is not None and bool(artifact.gated),
                ),
            ],
            generation={
                "max_new_tokens": self.config.evaluation.max_new_tokens,
                "template": self.model.template,
                "template_arguments": {},
                **self.beside(),
            },
            command=self.typed,
            versions=self.provenance.versions,
            seed=self.config.seed_everything,
            model=self.target_as_written,
            judge=_first_judge(found for arm in samples.values() for found in arm),
            seconds=self.provenance.seconds,
            quantization=quantization_of(self.model.network),
        )
        directions, gates, vocabulary = None, {}, {}
        if artifact is not None:
            gates = {
                " ".join([*([] if key == PAIRS else [key]), name]): state.record
                for key, rule in artifact.gated.items()
                for name, state in (rule.gate.states if rule.gate else {}).items()
            }
            pairs = artifact.rules.get(PAIRS, Rule({}))
            directions = {name: _by_layer(found, artifact.num_layers) for name, found in pairs.statistics.items()}
            vocabulary = pairs.extraction.get("vocabulary", {})
        write_html(
            results,
            output / "report.html",
            samples=named,
            directions=directions,
            gates=gates,
            vocabulary=vocabulary,
            settings=self.config_text,
            notes=[f"Edited and steered arms are a control here, not a method: {phrase}." for phrase in control],
            show_replies=self.config.evaluation.show_replies,
        )
        write_whole(output / "results.md", markdown(results))
        write_results(results, output / "results.json")  # last: it says that the others are there
        if artifact is not None and self.is_whole():
            try:
                artifact.write_card(
                    self.config.steering.artifact, f"Measured by `{self.typed}`.\n\n{markdown(results)}"
                )
            except (OSError, ArtifactError) as error:  # it is shared, say; all is in OUTPUT
                said = str(error).split("\n")[0] if isinstance(error, ArtifactError) else f"README.md: {error.strerror}"
                say(f"Warning. The artifact's card was not renewed ({said}); the same table is in {output}/results.md.")
        self.results = results


def _judge(name: str, answers: Answers) -> Judge:
    """Load a judge; a rule that cannot read these replies says so now."""
    if name in RUBRICS and RUBRICS[name].model is None:
        raise SettingError(
            f"The judge {name} has no model of its own, and `sa validate` cannot be told one.\n"
            "Its verdicts are only as good as that model, so none is chosen for you.\n"
            f"Judge afterwards: `sa judge --input OUTPUT/replies.jsonl --output verdicts.jsonl --judge {name}`, with "
            "`--local.model`, or `--endpoint.base_url` and `--endpoint.model`."
        )
    judge = load_judge(name, answers=answers)
    if name in JUDGES:
        judge([Reply("a question", "an answer", {"kind": "harmless"})])
    return judge


def _first_judge(samples: Iterable[Any]) -> str:
    """The judge whose outcomes are counted, if it is one for all tasks."""
    names = {next(iter(sample.verdicts)) for sample in samples if sample.verdicts}
    return names.pop() if len(names) == 1 else "per task"


@contextmanager
def _bars(*, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows how far each judge has come."""
    with Progress(console=Terminal(stderr=True), disable=not shown) as bars:
        known: dict[str, TaskID] = {}

        def report(judge: str, done: int, total: int) -> None:
            if judge not in known:
                known[judge] = bars.add_task(f"judged by {judge}", total=total)
            bars.update(known[judge], completed=done)

        yield report


@rank_zero_only
def _say_missing(missing: Mapping[str, str]) -> None:
    """Name the tasks that are left out, those with the same reason together."""
    for reason in dict.fromkeys(missing.values()):
        tasks = [task for task, given in missing.items() if given == reason]
        more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
        print(shown(f"Left out: {', '.join(tasks[:3])}{more}. {reason}\n"), file=sys.stderr)


def _by_layer(statistics: Mapping[str, Sequence[Any]], count: int) -> list[float]:
    """The norm of the difference at every layer; NaN, a gap in the plot, where none was read."""
    norms = statistics["difference_norm"]
    known = dict(zip(statistics.get("layers", range(len(norms))), norms, strict=True))
    return [known.get(layer, math.nan) for layer in range(count)]


def run(arguments: Sequence[str], command: str | None = None, seconds: Mapping[str, float] | None = None) -> None:
    """Run the verb; another that runs it on the way says what was typed, and what took how long before."""
    with lines("sa validate"):
        _validate(arguments, command, seconds)


def _validate(arguments: Sequence[str], command: str | None, seconds: Mapping[str, float] | None) -> None:
    cli = ValidateCLI("validate", ArmDataModule, arguments)
    cli.typed = cli.provenance.command = command or cli.typed
    cli.provenance.seconds.update(seconds or {})
    with cli.output:
        cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        if cli.results is None:
            raise IncompleteError("The run was stopped before anything was measured; no results were written.")
        console, output = Terminal(), Path(cli.config.output)
        console.print(table(cli.results))
        for line in reply_lines(cli.results):
            console.print(line, soft_wrap=True, highlight=False)
        for warning in cli.results["warnings"]:
            console.warn("Warning.", warning)
        for phrase in cli.results["control"]:
            console.warn("A control, not a method:", f"{phrase}.")
        artifact = cli.config.steering.artifact
        if artifact and Path(artifact).is_dir() and not cli.is_whole():
            console.print(
                "The artifact's card keeps its numbers: this run measured a part of it (`--limit`), or another."
            )
        for name, what in (("report.html", "tables and plots"), ("results.json", "the same numbers, for programs")):
            console.wrote(output / name, what)
