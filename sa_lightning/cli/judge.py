"""`sa judge`: say what became of saved replies, without generating any again."""

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sa_lightning.cli.common.inputs import parse
from sa_lightning.errors import DataError, SettingError
from sa_lightning.evaluation.judges.answer_cache import Answers
from sa_lightning.evaluation.judges.endpoint import Endpoint
from sa_lightning.evaluation.judges.local_model import TransformersModel
from sa_lightning.evaluation.judges.registry import JUDGES, load_judge, speaks_of_harm
from sa_lightning.evaluation.judges.replies import Reply, read_replies, write_verdicts
from sa_lightning.evaluation.judges.rubrics import LONGEST, RUBRICS
from sa_lightning.evaluation.report.judgements import agreement_tables, label_table, outcome_tables, read_labels
from sa_lightning.evaluation.samples import Verdict
from sa_lightning.foreign.patterns import why_refused
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.outputs import Output
from sa_lightning.rows import iter_rows

RULES = textwrap.fill(", ".join(JUDGES), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
MODELS = "\n".join(
    textwrap.fill(
        f"{rubric.use} {f'Default: {rubric.model}.' if rubric.model else 'No default model.'}",
        118,
        initial_indent=f"  {name:<18}",
        subsequent_indent=" " * 20,
        break_on_hyphens=False,
    )
    for name, rubric in RUBRICS.items()
)

DESCRIPTION = f"""Judge saved replies: complied, refused, partial, degenerate or unjudged; nothing is generated again.

INPUT has one JSON object a line with `prompt` and `response` (without chat template and special tokens); `sa validate`
writes such a file, replies.jsonl. Names that end in .json, .csv, .tsv, .xlsx or .parquet are read as such. OUTPUT has
the same lines, in order, with their other keys, and `outcome` (the first judge's), `outcomes` (every judge's, and those
of earlier runs), `judges_said` (what judges that are models answered, word for word) and, where a judge speaks of harm,
`harmful`: true, false, or null where it cannot be told. Only you may read OUTPUT. Blank lines are skipped. It also
prints outcomes by `arm` and `kind` where the lines have these, and how far judges agree.

Judges that are rules, offline and at once (`refusal` is this project's detector; `phrases.NAME` the published lists of
refusal phrases, exactly, for comparison):
{RULES}

Judges that are language models, here (`--local…`) or behind an OpenAI-compatible server (`--endpoint…`):
{MODELS}
They read the first {LONGEST["prompt"]} characters of a prompt and {LONGEST["response"]} of a reply, without control
markers such as [/INST]. Degenerate replies are not sent. An answer that cannot be read, or that
only mentions a verdict ("It is not [B]."), is unjudged. Answers are kept
in a file beside OUTPUT until it is written: run a command again after it was killed, and no question is asked twice.

Examples:
  sa judge --input replies.jsonl --output verdicts.jsonl
  sa judge --input replies.jsonl --output verdicts.jsonl --judge refusal --judge phrases.gcg --judge harmbench
  sa judge --input replies.jsonl --output verdicts.jsonl --judge wildguard --local.model models/wildguard
  sa judge --input replies.jsonl --output verdicts.jsonl --judge safety_arithmetic \\
      --endpoint.base_url http://localhost:8000/v1 --endpoint.model my-judge --endpoint.api_key_env JUDGE_KEY
  sa judge --input labelled.jsonl --output verdicts.jsonl --judge refusal --judge phrases.xstest --label final_label
"""


OUTPUT_KEYS = ("outcome", "outcomes", "harmful", "judges_said")


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        """Keeps the lines of the description."""

    found = ArgumentParser(prog="sa judge", exit_on_error=False, description=DESCRIPTION, formatter_class=Formatter)
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument("--input", type=str, required=True, help="Replies, a JSON object a line, or a table.")
    found.add_argument("--output", type=str, required=True, help="File for the same lines with verdicts.")
    found.add_argument(
        "--judge",
        type=list[str],
        default=["refusal"],
        help="Name of a judge; repeat it for several, or write '[A, B]'. The first decides `outcome`.",
    )
    found.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace OUTPUT.")
    found.add_argument(
        "--label",
        type=str | None,
        default=None,
        help="Key of a line that holds what a person says: complied, refused, partial (or XSTest's 1_full_compliance, "
        "2_full_refusal, 3_partial_refusal), or true and false for harmful. Judges are compared with it.",
    )
    found.add_class_arguments(TransformersModel, "local")
    found.add_class_arguments(Endpoint, "endpoint")
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    found = parser()
    config: Any = found.instantiate(parse(found, "judge", _repeated(arguments)))
    names = list(dict.fromkeys(config.judge))
    if not names:
        raise SettingError(
            f"`--judge` names no judge.\nA reply is judged by somebody.\nName one, such as {next(iter(JUDGES))}."
        )
    settings = _settings(names, config)
    if config.label in OUTPUT_KEYS:
        raise SettingError(
            f"`--label` is {config.label}, a key that this verb writes itself: {', '.join(OUTPUT_KEYS)}.\n"
            "What a person says would be lost in the result.\nGive the key another name in the lines."
        )
    output, given = Path(config.output), Path(config.input)
    # All of a file of lines is written again; a table would be lost for them.
    same = given.suffix == ".jsonl" and given.exists() and os.path.exists(output) and output.samefile(given)
    foreign = _judged_by_hand if same else None
    with Output.of_file(output, "judge", overwrite=config.overwrite, foreign=foreign):
        _judge(config, names, settings)


def _judge(config: Any, names: Sequence[str], settings: Mapping[str, dict[str, Any]]) -> None:
    output = Path(config.output)
    replies = read_replies(config.input)
    labels = None if config.label is None else read_labels(replies, config.label)
    if "tiny_world" in names:
        _refuse_forms(replies)
    answers = Answers(output.with_name(f".{output.name}.answers"))
    judges = {name: load_judge(name, answers=answers, **settings.get(name, {})) for name in names}
    console = Terminal()
    if len(answers):
        console.print(f"{len(answers)} answers of an interrupted run are known already.", highlight=False)
    verdicts = _judged(judges, replies, console)
    harm = next(filter(speaks_of_harm, names), None)
    write_verdicts(output, replies, verdicts, harm)
    if settings:
        answers.remove()
    shown = [*outcome_tables(replies, verdicts), *agreement_tables(verdicts)]
    if labels is not None:
        shown.append(label_table(labels, verdicts, str(config.label)))
    for table in shown:
        console.print(table)
    console.wrote(output, f"{len(replies)} replies with verdicts")


def _judged_by_hand(path: Path) -> str | None:
    """Say which keys of lines that are written again would lose what somebody wrote there."""
    known = {key for _, row in iter_rows(path) if isinstance(row, dict) for key in OUTPUT_KEYS if key in row}
    return f"has {', '.join(sorted(known))}, which `sa judge` did not write" if known else None


def _refuse_forms(replies: Sequence[Reply]) -> None:
    """Refuse forms that are no regular expressions, or could be matched for hours."""
    for number, reply in enumerate(replies, 1):
        why = why_refused(reply.doc["form"]) if reply.doc.get("form") else None
        if why is not None:
            raise DataError(
                f"Reply {number} has the `form` {repr(reply.doc['form'])[:40]}, which is refused: {why}.\n"
                "The judge tiny_world knows an answer by it.\nMend the line, or choose another judge."
            )


def _repeated(arguments: Sequence[str]) -> list[str]:
    """Gather every `--judge A` into one list, as jsonargparse reads it."""
    names: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--judge":
            names.append(next(rest, ""))
        elif argument.startswith("--judge="):
            names.append(argument.partition("=")[2])
        else:
            others.append(argument)
    listed = [name for text in names for name in text.strip("[] ").replace(",", " ").split()]
    return [*others, f"--judge=[{', '.join(listed)}]"] if names else others


def _settings(names: Sequence[str], config: Any) -> dict[str, dict[str, Any]]:
    """Return what each judge that is a model is given; refuse settings that no judge would use."""
    models = [name for name in names if name in RUBRICS]
    local = {key: value for key, value in asdict(config.local).items() if key not in ("identity", "markers")}
    endpoint = {key: value for key, value in asdict(config.endpoint).items() if key not in ("identity", "markers")}
    is_remote = config.endpoint != Endpoint()
    if is_remote and config.local != TransformersModel():
        raise SettingError(
            "Both `--local…` and `--endpoint…` are given.\nA judge that is a model is asked here or there.\n"
            "Leave one out; for judges in both places, run twice."
        )
    if not models and (is_remote or config.local != TransformersModel()):
        raise SettingError(
            f"`--{'endpoint' if is_remote else 'local'}…` is given, but {', '.join(names)} ask no model.\n"
            f"It would change nothing.\nAdd a judge that does, such as {next(iter(RUBRICS))}, or leave it out."
        )
    if is_remote and not endpoint["base_url"]:
        raise SettingError(
            "`--endpoint…` is given without `--endpoint.base_url`.\nQuestions are sent there.\n"
            "Write the server's address, for example `http://localhost:8000/v1`."
        )
    return {name: dict(endpoint if is_remote else local) for name in models}


def _judged(judges: Mapping[str, Any], replies: Sequence[Reply], console: Terminal) -> dict[str, list[Verdict]]:
    with _bars(console) as bars:
        return {name: judge(replies, bars(name)) for name, judge in judges.items()}


@contextmanager
def _bars(console: Terminal) -> Iterator[Any]:
    """Yield a function from a judge's name to a progress bar of its own, with the time left."""
    columns = (
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:

        def bar(name: str) -> Any:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield bar
