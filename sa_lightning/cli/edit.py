"""`sa edit`: weight surgery alone, from checkpoints to a checkpoint, without a Trainer."""

import dataclasses
from collections.abc import Sequence

from jsonargparse import ArgumentParser
from rich.console import Console

from sa_lightning.cli.inputs import find_configs, resolve_worlds, typed
from sa_lightning.cli.progress import stages
from sa_lightning.surgery import Checkpoint, EditSettings, check_output, plan_edit, write_edit

SETTINGS = tuple(field.name for field in dataclasses.fields(EditSettings))


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa edit",
        exit_on_error=False,
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
    settings = EditSettings(**{name: getattr(found.instantiate_classes(config), name) for name in SETTINGS})
    places = resolve_worlds({"base": config.base, "harm": config.harm, "target": config.target}, settings.seed)
    base, harm = Checkpoint.open(places["base"]), Checkpoint.open(places["harm"])
    target = Checkpoint.open(places["target"]) if places["target"] else base
    output = check_output(config.output, [base, harm, target], overwrite=config.overwrite)
    console = Console()
    with stages(console) as progress:
        plan = plan_edit(base, harm, target, settings, progress=progress)
        write_edit(plan, output, overwrite=config.overwrite, command=typed("edit", arguments), progress=progress)
    console.print(f"[bold]{output}[/bold]  edited checkpoint; surgery.json says what changed")
