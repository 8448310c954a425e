"""`sa fit`: learn the harm direction of the weights and the safety direction of the activations."""

import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser
from typing_extensions import override

from sa_lightning.callbacks import ExtractionCallback, ShardedStrategy, SurgeryCallback
from sa_lightning.cli.common.fit_strengths import say_strengths
from sa_lightning.cli.common.fitted import say_gates, say_layers, say_unused, say_vocabulary
from sa_lightning.cli.common.verb import VerbCLI
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import IncompleteError, SettingError
from sa_lightning.evaluation.degenerate import is_language
from sa_lightning.experiments.settings import check_each_rule
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.outputs import UNFINISHED, Foreign, Output
from sa_lightning.progress import Report, lines, stages
from sa_lightning.steering.artifact.format import foreign_in_artifact
from sa_lightning.surgery.edit.on_disk import foreign_in_edit

FOREIGN: dict[str, Foreign] = {"artifact": foreign_in_artifact, "edited": foreign_in_edit}
FILES = ("fit.json", "fit.yaml", "layers.svg", "vocabulary.svg", "gate.svg", "gate-edited.svg", "strength.svg")


class FitCLI(VerbCLI):
    """Align a model at test time: subtract a harm vector, fit a direction per layer, write the artifact.

    Writes OUTPUT/artifact and, with `--surgery.harm`, OUTPUT/edited. Several --config files may be given; later ones
    and options win. `--print_config` shows all settings; `sa edit --help` explains those of the surgery alone.
    """

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--no-save-edited", action="store_true", help="Short for --surgery.save_edited false.")
        parser.add_lightning_class_args(SurgeryCallback, "surgery")
        parser.add_lightning_class_args(ExtractionCallback, "steering")

    @override
    def check(self, config: Any) -> None:
        config.surgery.save_edited = config.surgery.save_edited and not config.no_save_edited
        if config.surgery.dtype != "auto":
            raise SettingError(
                f"`surgery.dtype` is {config.surgery.dtype}, but a fit edits weights in the type they are loaded in.\n"
                "Directions fitted on one type are refused on another.\n"
                "Choose the type for both: `--model.dtype`; or write another copy with `sa edit --dtype`."
            )
        if config.trainer.strategy == ShardedStrategy.strategy_name and _surgery(config):
            raise SettingError(
                "A surgery needs whole weights, but `--trainer.strategy sharded` splits them over processes.\n"
                "Edit first, from checkpoint to checkpoint and in little memory: `sa edit`.\n"
                "Then fit directions on its output: `--model.target <edited>`, without `--surgery`."
            )
        check_each_rule(config.steering.rules or {})
        # One pass over the demonstrations a state of the weights: original, then edited.
        config.trainer.max_epochs = 2 if _surgery(config) else 1
        self.output = _claimed(config, edits=bool(_surgery(config)) and config.surgery.save_edited)

    @override
    def callbacks(self) -> list[Callback]:
        if self.config.trainer.enable_progress_bar is not False:
            self.config_init.surgery.surgery.progress = stages
        self.config_init.steering.fit.is_language = is_language
        return [self.config_init.surgery, self.config_init.steering]


def _claimed(config: Any, *, edits: bool) -> Output:
    """The output of a fit; what an interrupted one has written before its artifact is written again."""
    output, rules = Path(config.output), config.steering.rules or {}
    results = [name for name, foreign in FOREIGN.items() if edits or name == "artifact" or not foreign(output / name)]
    drawn = [f"{name}.svg" for rule in rules for name in (f"gate-{rule}", f"gate-{rule}-edited", f"strength-{rule}")]
    done = results[:1] if os.path.isdir(output / UNFINISHED) else results
    names = [*results, *FILES, *drawn]
    return Output(output, "fit", names, done=done, overwrite=config.overwrite, foreign=FOREIGN)


def _measured_by(target: str) -> str:
    """The configs that measure a target: worlds have tasks of their own."""
    world = re.match(r"world:(tiny|small)/", str(target))
    return world[1] if world else "safety_arithmetic"


def _next(cli: FitCLI, output: Path) -> str:
    """The command that measures what was fitted, as a shell takes it."""
    target = str(cli.target_as_written)
    words = ["--config", f"configs/{_measured_by(target)}/validate.yaml", "--model.target", target]
    words += ["--template", str(cli.model.template), *_also(cli)]
    return shlex.join(
        ["sa", "validate", *words, "--artifact", str(output / "artifact"), "--output", f"{output}-measured"]
    )


def _also(cli: FitCLI) -> list[str]:
    """What else decides which model is measured, where it was set."""
    found = {"model.dtype": cli.model.dtype_name, "model.tokenizer": cli.config.model.tokenizer}
    found |= {"model.revision": cli.model.revision, "model.blocks": cli.model.blocks_path}
    found |= {"model.quantization": cli.model.quantization}
    if cli.model.template_arguments:
        found["model.template_arguments"] = json.dumps(cli.model.template_arguments)
    found["model.system_prompt"] = cli.model.system_prompt or None
    found["seed_everything"] = cli.config.seed_everything if "world:" in str(cli.target_as_written) else None
    return [word for name, value in found.items() if value not in (None, "auto") for word in (f"--{name}", str(value))]


def _surgery(config: Any) -> bool:
    return any(config.surgery[name] for name in ("harm", "aligned", "unaligned", "direction"))


def run(arguments: Sequence[str], *, say_next: bool = True) -> None:
    """Run the verb, and say what could be typed next."""
    with lines("sa fit") as report:
        _fit(arguments, say_next, report)


def _fit(arguments: Sequence[str], say_next: bool, report: Report) -> None:
    cli = FitCLI("fit", DemonstrationDataModule, arguments)
    with cli.output:
        _run(cli, say_next, report)


def _run(cli: FitCLI, say_next: bool, report: Report) -> None:
    cli.config_init.steering.fit.report = report
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning makes the one into the other
        if cli.trainer.is_global_zero and any((Path(cli.config.output) / UNFINISHED).glob("*.safetensors")):
            Terminal(stderr=True).print("Stopped. What was read is kept: the same command goes on from there.")
        raise KeyboardInterrupt from stop
    if cli.config_init.steering.artifact is None:
        raise IncompleteError("The run was stopped before anything was fitted; no artifact was written.")
    if cli.trainer.is_global_zero:
        steering, output = cli.config_init.steering, Path(cli.config.output)
        data, artifact = steering.fit.data, steering.artifact
        console = Terminal()
        if steering.settings.fits_pairs:
            console.print(
                f"Read {data.count} pairs ({data.skipped} left out, {data.truncated} sequences cut on the left)."
            )
        resumed = max(steering.resumed.values(), default=0)
        if resumed:
            console.print(f"The states of {resumed} pairs had been read before an interruption.")
        console.wrote(output / "artifact", "directions, settings and provenance")
        for phrase in artifact.controls():
            console.warn("A control, not a method:", f"{phrase}.")
        say_layers(artifact, output, console)
        say_vocabulary(artifact, output, console)
        say_strengths(artifact, output, console)
        say_gates(artifact, output, console)
        say_unused(steering.fit.prompts, console)
        callback = cli.config_init.surgery
        surgery = callback.surgery
        if surgery.harm:
            console.print(f"Harm vector: {surgery.harm} − {surgery.base}", soft_wrap=True)
        if surgery.wanted and callback.save_edited:
            console.wrote(output / "edited", "the target with stage 1 in its weights; steer it for stage 2")
        elif "edited" in cli.output.names:
            cli.output.discard("edited")  # of an earlier fit, which `--overwrite` gave up
        cli.output.finish()
        if say_next:
            console.print(f"Next: {_next(cli, output)}", soft_wrap=True)
