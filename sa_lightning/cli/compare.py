"""`sa compare`: methods against one another, chosen on some prompts, reported on others, each row run once."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from sa_lightning.cli.common.inputs import parse, typed
from sa_lightning.cli.common.verb import quieten
from sa_lightning.evaluation.harness.settings import EvaluationSettings
from sa_lightning.experiments.compare.comparison import Comparison
from sa_lightning.experiments.compare.report import file_names
from sa_lightning.experiments.compare.settings import CompareSettings
from sa_lightning.experiments.settings import PARTS, add_parts
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.module import CausalLMModule
from sa_lightning.outputs import Output, check_place, remove_empty

__all__ = ["run"]


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa compare",
        exit_on_error=False,
        description="Measure many methods on one or several models: settings are chosen on some prompts (`choose`) and "
        "reported on others (`report`), with controls and paired tests. Every measurement is a line of the rows file "
        "as soon as it is made, with what became of each prompt, and is not made again; all tables follow from these "
        "lines. Writes OUTPUT/compare.json, compare.md and plots.",
    )
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument("--output", type=str, required=True, help="Directory for everything this run writes.")
    found.add_argument(
        "--print", type=bool, nargs="?", const=True, default=False, help="Run nothing: show the tables, and what lacks."
    )
    found.add_argument(
        "--rerun",
        type=str | None,
        default=None,
        help="Run this row again, on the seeds and targets of `--compare.only_…`, into OUTPUT, and say whether the "
        "same numbers come out: exit status 1 if not.",
    )
    found.add_class_arguments(CompareSettings, "compare")
    found.add_class_arguments(EvaluationSettings, "evaluation")
    found.add_class_arguments(CausalLMModule, "model", skip={"target"}, instantiate=False)
    found.add_argument("--model.target", type=str | None, default=None, help="The model, where there are no targets.")
    add_parts(found, PARTS)
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    quieten()
    found = parser()
    config = parse(found, "compare", arguments)
    place = Path(config.output)
    remove_empty(check_place(place, place, ["compare.json"]))  # rows are looked for there at once
    comparison = Comparison(config, found.get_defaults().as_dict()["model"], typed("compare", arguments))
    console = Terminal()
    # Several processes may share the work: whoever comes last writes the tables anew.
    with Output(config.output, "compare", file_names(comparison.plan.models), done=(), shared=True) as output:
        if config.rerun is not None:
            raise SystemExit(comparison.rerun(config.rerun, console))
        if not config.print:
            comparison.run(console)
        comparison.report(console)
        output.finish()
