"""`sa sweep`: try many settings on validation prompts, and see what they trade against one another."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from sa_lightning.cli.common.inputs import parse, typed
from sa_lightning.cli.common.verb import quieten
from sa_lightning.errors import SaError, SettingError
from sa_lightning.evaluation.harness.settings import EvaluationSettings
from sa_lightning.experiments.settings import MODEL_PARTS, add_parts
from sa_lightning.experiments.sweep.sweep import Sweep, SweepSettings
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.module import CausalLMModule
from sa_lightning.outputs import Output

FILES = ("sweep.json", "sweep.md", "front.svg", "curves.svg", "chosen.yaml")


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa sweep",
        exit_on_error=False,
        description="Measure one arm under many settings of surgery and steering, from one loaded model. Writes "
        "OUTPUT/sweep.json, sweep.md, front.svg and chosen.yaml (for `sa fit`). Every finished trial is in "
        "OUTPUT/journal.log at once: the same command goes on where it was interrupted. Choose settings on validation "
        "prompts, and report others.",
    )
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument("--output", type=str, required=True, help="Directory for everything this run writes.")
    found.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Start over.")
    found.add_class_arguments(SweepSettings, "sweep")
    found.add_class_arguments(EvaluationSettings, "evaluation")
    found.add_class_arguments(CausalLMModule, "model")
    add_parts(found, MODEL_PARTS)
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    quieten()
    found = parser()
    config = parse(found, "sweep", arguments)
    console = Terminal()
    with Output(config.output, "sweep", FILES, done=(), overwrite=config.overwrite) as output:
        sweep = Sweep(found, config, typed("sweep", arguments))
        try:
            sweep.run(console)
        except SaError:
            sweep.journal.drop_if_empty()
            raise
        sweep.report.write(console)
        output.finish()
    why = [trial.get("failed") for trial in sweep.report.trials]
    if why and all(why):
        raise SettingError(
            f"None of the {len(why)} settings changes anything, so none was measured. {why[0]}\n"
            "There is nothing to choose from.\nMend `--sweep.space`, or the settings that all trials share."
        )
