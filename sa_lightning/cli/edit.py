"""`sa edit`: weight surgery alone, from checkpoints to a checkpoint, without a Trainer."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from sa_lightning.cli.inputs import find_configs, refuse_existing, resolve_worlds, typed
from sa_lightning.cli.progress import bytes_progress
from sa_lightning.surgery import Checkpoint, EditSettings, plan_edit, write_edit


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa edit",
        description="Subtract a trimmed harm vector: edited = target − scale · mask ⊙ (harm − base). "
        "Safety Arithmetic (arXiv 2406.11801), stage 1.",
    )
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument("--base", type=str, required=True, help="Directory or Hub id the harm model was tuned from.")
    found.add_argument("--harm", type=str, required=True, help="Harmful fine-tune: checkpoint or PEFT adapter.")
    found.add_argument(
        "--target", type=str | None, default=None, help="Checkpoint or adapter to repair; the base if not given."
    )
    found.add_argument("--output", type=str, required=True, help="Directory for the edited checkpoint.")
    found.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace OUTPUT.")
    found.add_class_arguments(EditSettings, as_group=False)
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    found = parser()
    config = found.parse_args(find_configs(arguments))
    output = Path(config.output)
    refuse_existing([output], config.overwrite)
    names = ("base", "harm", "target", "output", "overwrite", "config")
    settings = found.instantiate_classes(config)
    settings = EditSettings(**{key: value for key, value in vars(settings).items() if key not in names})
    places = resolve_worlds({"base": config.base, "harm": config.harm, "target": config.target}, settings.seed)
    base, harm = Checkpoint.open(places["base"]), Checkpoint.open(places["harm"])
    target = Checkpoint.open(places["target"]) if places["target"] else base
    console = Console()
    with bytes_progress(console) as progress:
        plan = plan_edit(base, harm, target, settings, progress=progress)
        write_edit(plan, output, overwrite=config.overwrite, command=typed("edit", arguments), progress=progress)
    console.print(f"[bold]{output}[/bold]  edited checkpoint; surgery.json says what changed")
