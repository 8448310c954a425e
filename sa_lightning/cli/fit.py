"""`sa fit`: learn the harm direction of the weights and the safety direction of the activations."""

import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from sa_lightning.callbacks import ExtractionCallback, ShardedStrategy, SurgeryCallback
from sa_lightning.cli.common.fit_strengths import say_strengths
from sa_lightning.cli.common.verb import VerbCLI
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import SettingError
from sa_lightning.evaluation import rate
from sa_lightning.evaluation.degenerate import is_language
from sa_lightning.evaluation.report.curves import draw_layers
from sa_lightning.evaluation.report.gate_charts import draw_gate
from sa_lightning.evaluation.report.vocabulary_chart import draw_vocabulary
from sa_lightning.experiments.settings import check_each_part
from sa_lightning.files import refuse_existing
from sa_lightning.progress import Report, lines, stages
from sa_lightning.steering.directions.vocabulary import visible


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
        output = Path(config.output)
        refuse_existing([output / "artifact", output / "edited"], config.overwrite)
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
        check_each_part(config.steering.parts or {})
        # One pass over the demonstrations a state of the weights: original, then edited.
        passes = 2 if _surgery(config) else 1
        if config.trainer.max_epochs not in (None, passes):
            raise SettingError(
                f"`trainer.max_epochs` is {config.trainer.max_epochs}, but this fit makes {passes} passes over the "
                "demonstrations.\nThere is one for each state of the weights: original and, after surgery, edited.\n"
                "Leave `--trainer.max_epochs` out."
            )
        config.trainer.max_epochs = passes

    @override
    def callbacks(self) -> list[Callback]:
        if self.config.trainer.enable_progress_bar is not False:
            self.config_init.surgery.progress = stages
        self.config_init.steering.is_language = is_language
        return [self.config_init.surgery, self.config_init.steering]


def _say_layers(steering: ExtractionCallback, output: Path, console: Console) -> None:
    """Say, and draw, how well the layers tell safe from unsafe."""
    artifact = steering.artifact
    assert artifact is not None
    chosen = {name: artifact.steered_layers(name) for name in artifact.directions}
    if not artifact.statistics:  # no pairs were read
        return
    draw_layers(artifact.statistics, chosen, output / "layers.svg")
    for name, found in artifact.statistics.items():
        known = {layer: area for layer, area in zip(found["layers"], found["auroc"], strict=True) if area == area}
        if known:
            best = max(known, key=lambda layer: known[layer])
            least, most = f"{min(known.values()):.2f}", f"{known[best]:.2f}"
            console.print(
                f"Held-out pairs (n = {found['held_out'][0]}), {name} weights: safe from unsafe with an AUROC of "
                f"{most if least == most else f'{least} to {most} (layer {best})'}; steered: {_span(chosen[name])}.",
                soft_wrap=True,
            )
    console.print(f"[bold]{output / 'layers.svg'}[/bold]  the same, layer by layer")


def _say_vocabulary(steering: ExtractionCallback, output: Path, console: Console) -> None:
    """Say, and draw, which words the directions of each segment of layers write."""
    artifact = steering.artifact
    assert artifact is not None
    path = output / "vocabulary.svg"
    path.unlink(missing_ok=True)  # of an earlier fit, which `--overwrite` gave up
    vocabulary = artifact.extraction.get("vocabulary", {})
    for name, found in vocabulary.items():
        table = Table(title=f"Words that the directions write, {name} weights", title_justify="left")
        for heading in ("layers", "words of refusal", "top tokens", "of the other sign", "steered"):
            table.add_column(heading)
        for number, one in enumerate(found["segments"]):
            said = Text(" ").join(
                Text(visible(token), style="bold" if refuses else "")
                for token, refuses in zip(one["tokens"], one["refusal"], strict=True)
            )
            table.add_row(
                f"{one['layers'][0]} to {one['layers'][-1]}",
                f"{100 * one['score']:.0f} %",
                said,
                Text(" ".join(map(visible, one["opposite"]))),
                "yes" if number == found["steered"] else "",
            )
        console.print(table)
    if vocabulary:
        draw_vocabulary(vocabulary, path)
        console.print(f"[bold]{path}[/bold]  the same, with the logits")


def _say_gates(steering: ExtractionCallback, output: Path, console: Console) -> None:
    """Say, and draw, what the gates make of prompts."""
    artifact = steering.artifact
    assert artifact is not None
    for old in output.glob("gate*.svg"):
        old.unlink()  # of an earlier fit, which `--overwrite` gave up
    for part, one in artifact.together.items():
        kinds = one.finds()
        for name, found in (one.gate or {"sets": {}})["sets"].items():
            (k, n), (j, m) = found["found"], found["others"]
            recall, alarms = rate(k, n), rate(j, m)
            which = "held-out prompts" if found["held_out"] else "the prompts it was fitted on"
            console.print(
                f"Gate{f' of {part}' if part else ''}, {name} weights: from {found['threshold']:.4g} on a prompt "
                f"counts as {kinds}. Of {which}: {k}/{n} {kinds} ({_percent(recall)}), "
                f"{j}/{m} others ({_percent(alarms)}); AUROC {found['auroc']:.3f}.",
                soft_wrap=True,
            )
            for kind, single in found.get("joined", {}).items():
                (d, e), (f, g) = single["found"], single["others"]
                console.print(
                    f"  Of these, that for {kind}: from {single['threshold']:.4g} on, {d}/{e} of them and {f}/{g} "
                    f"others; AUROC {single['auroc']:.3f}.",
                    soft_wrap=True,
                )
            if "spares" in found:
                first = found["spares"]
                (a, b), (c, _) = first["spared"]["found"], first["spared"]["others"]
                (d, e), (f, _) = first["found"], first["steered"]
                console.print(
                    f"  Spared before that: {d}/{e} {' and '.join(one.gate_kinds('spares'))}, of which {f} are steered "
                    f"nonetheless; and {a} {kinds} and {c} others, which are so not found.",
                    soft_wrap=True,
                )
                if k < math.ceil(one.gate_settings.recall * n - 1e-9) <= k + a:
                    console.print(
                        f"  [yellow]A recall of {one.gate_settings.recall} was asked for:[/yellow] {a} of {b} are "
                        "spared first. Are the kinds in `gate.spares` too like those in `gate.finds`?",
                        soft_wrap=True,
                    )
            path = output / "-".join(["gate", *([part] if part else []), *([name] if name != "original" else [])])
            path = path.with_name(f"{path.name}.svg")
            if draw_gate(found, path, f"{part}, {name}" if part else name):
                console.print(f"[bold]{path}[/bold]  its scores, how sure they are, and each layer alone")
    for file, kinds in steering.unused_kinds.items():
        told = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        console.print(f"No gate and no part is fitted on these kinds of {file}: {told}.", soft_wrap=True)


def _percent(found: Any) -> str:
    return f"{100 * found['low']:.0f} to {100 * found['high']:.0f} %"


def _span(layers: list[int]) -> str:
    """Layers in few words."""
    if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"


def _measured_by(target: str) -> str:
    """The configs that measure a target: worlds have tasks of their own."""
    world = re.match(r"world:(tiny|small)/", str(target))
    return world[1] if world else "safety_arithmetic"


def _also(cli: FitCLI) -> str:
    """What else decides which model is measured, where it was set."""
    found = {"model.dtype": cli.model.dtype_name, "model.tokenizer": cli.config.model.tokenizer}
    found |= {"model.revision": cli.model.revision, "model.blocks": cli.model.blocks_path}
    text = "".join(f"--{name} {value} " for name, value in found.items() if value not in (None, "auto"))
    if cli.model.template_arguments:
        text += f"--model.template_arguments '{json.dumps(cli.model.template_arguments)}' "
    world = "world:" in str(cli.target_as_written)
    return text + (f"--seed_everything {cli.config.seed_everything} " if world else "")


def _surgery(config: Any) -> bool:
    return any(config.surgery[name] for name in ("harm", "aligned", "unaligned", "direction"))


def run(arguments: Sequence[str], *, say_next: bool = True) -> None:
    """Run the verb, and say what could be typed next."""
    with lines("sa fit") as report:
        _fit(arguments, say_next, report)


def _fit(arguments: Sequence[str], say_next: bool, report: Report) -> None:
    cli = FitCLI("fit", DemonstrationDataModule, arguments)
    cli.config_init.steering.report = report
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning makes the one into the other
        if cli.trainer.is_global_zero and any((Path(cli.config.output) / "unfinished").glob("*.safetensors")):
            Console(stderr=True).print("Stopped. What was read is kept: the same command goes on from there.")
        raise KeyboardInterrupt from stop
    if cli.trainer.is_global_zero:
        data, output = cli.datamodule, Path(cli.config.output)
        console = Console()
        if cli.config_init.steering.artifact.statistics:
            console.print(
                f"Read {data.count} pairs ({data.skipped} left out, {data.truncated} sequences cut on the left)."
            )
        resumed = max(cli.config_init.steering.resumed.values(), default=0)
        if resumed:
            console.print(f"The states of {resumed} pairs had been read before an interruption.")
        console.print(f"[bold]{output / 'artifact'}[/bold]  directions, settings and provenance")
        for phrase in cli.config_init.steering.artifact.controls():
            console.print(f"[yellow]A control, not a method:[/yellow] {phrase}.", soft_wrap=True)
        _say_layers(cli.config_init.steering, output, console)
        _say_vocabulary(cli.config_init.steering, output, console)
        say_strengths(cli.config_init.steering.artifact, output, console)
        _say_gates(cli.config_init.steering, output, console)
        surgery = cli.config_init.surgery
        if surgery.harm:
            console.print(f"Harm vector: {surgery.harm} − {surgery.base}", soft_wrap=True)
        if surgery.wanted and surgery.save_edited:
            console.print(
                f"[bold]{output / 'edited'}[/bold]  the target with stage 1 in its weights; steer it for stage 2"
            )
        elif (output / "edited" / "surgery.json").is_file():
            shutil.rmtree(output / "edited")  # of an earlier fit, which `--overwrite` gave up
        if say_next:
            console.print(
                f"Next: sa validate --config configs/{_measured_by(cli.target_as_written)}/validate.yaml "
                f"--model.target {cli.target_as_written} --template {cli.model.template} "
                f"{_also(cli)}--artifact {output / 'artifact'} --output {output}-measured",
                soft_wrap=True,
            )
