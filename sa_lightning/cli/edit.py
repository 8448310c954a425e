"""`sa edit`: weight surgery alone, from checkpoints to a checkpoint, without a Trainer."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from sa_lightning.cli.common.inputs import find_configs, typed
from sa_lightning.names import resolve_worlds
from sa_lightning.progress import stages
from sa_lightning.surgery import (
    EditPlan,
    EditSettings,
    NamedTensors,
    Sources,
    check_output,
    check_sources,
    plan_from,
    write_edit,
)

SETTINGS = tuple(field.name for field in dataclasses.fields(EditSettings))
SOURCES = tuple(field.name for field in dataclasses.fields(Sources) if field.init)


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa edit",
        exit_on_error=False,
        description="Subtract a trimmed harm vector: edited = target − scale · mask ⊙ (harm − base). "
        "Safety Arithmetic (arXiv 2406.11801), stage 1. Other deltas, selections and operators by the options below; "
        "configs/*/edit.yaml has one for each published method. Checkpoints are read and written some rows at a time: "
        "memory stays small whatever their size.",
    )
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument("--base", type=str, required=True, help="Directory or Hub id the harm model was tuned from.")
    found.add_argument(
        "--harm",
        type=str | list[str] | None,
        default=None,
        help="Harmful fine-tune: checkpoint or PEFT adapter; several as '[H1, H2]'.",
    )
    found.add_argument(
        "--target", type=str | None, default=None, help="Checkpoint or adapter to repair; the base if not given."
    )
    found.add_argument("--output", type=str, required=True, help="Directory for the edited checkpoint.")
    found.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace OUTPUT.")
    found.add_argument(
        "--resume",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Go on where an interrupted run with the same inputs and settings has finished shards.",
    )
    found.add_class_arguments(Sources, as_group=False, skip={"base", "harm", "target"})
    found.add_argument(
        "--template", type=str, default="chat", help="How `prompts` are written: chat, plain, or a Jinja file."
    )
    found.add_class_arguments(EditSettings, as_group=False)
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    found = parser()
    config = found.parse_args(find_configs(arguments))
    given = found.instantiate(config)
    settings = EditSettings(**{name: getattr(given, name) for name in SETTINGS})
    roles: dict[str, Any] = {name: getattr(given, name) for name in SOURCES}
    sources = Sources(**{**roles, "harm": _listed(roles["harm"])})
    sources.check(settings)
    settings, sources = _places(settings, sources)
    read = [sources.scores, sources.prompts, sources.kl_prompts, sources.direction]
    read += [settings.minus.scores, settings.minus.prompts] if settings.minus is not None else []
    opened = check_sources(sources, settings)
    output = check_output(config.output, opened, overwrite=config.overwrite, also=[place for place in read if place])
    console = Console()
    with stages(console) as progress:
        target = _Target(sources.target or sources.base, config.template, progress)
        plan = plan_from(sources, settings, score=target.score, progress=progress)
        target.spend(plan, sources)
        say_warnings(console, plan)
        command = typed("edit", arguments)
        write_edit(plan, output, overwrite=config.overwrite, command=command, progress=progress, resume=config.resume)
    console.print(summary(plan), highlight=False)
    if plan.control:
        console.print(f"[yellow]A control, not a method:[/yellow] {plan.control}.", highlight=False, soft_wrap=True)
    console.print(f"[bold]{output}[/bold]  edited checkpoint; surgery.json says what changed", soft_wrap=True)


def say_warnings(console: Console, plan: EditPlan) -> None:
    """Say what looks wrong about the inputs, with its numbers."""
    for warning in plan.warnings:
        console.print(f"[yellow]Warning:[/yellow] {warning}", highlight=False, soft_wrap=True)


def summary(plan: EditPlan) -> str:
    """One line: what was done, and how much of it."""
    report = plan.report()
    settings = plan.settings
    scale = "" if settings.scale is None else f"{settings.scale:g} × "
    scale += "" if settings.layer_scales is None else "a factor of each layer × "
    area = f" within blocks {report['edit_area']}" if "edit_area" in report else ""
    return (
        f"{settings.operator} {scale}({report['delta']}), {report['k']:,} of {report['n']:,} entries{area} "
        f"({100 * report['density_achieved']:.2f} %): {100 * (report['retained_energy'] or 0):.1f} % of its energy, "
        f"a step of {100 * (report['relative_norm'] or 0):.3f} % of the weights' length."
    )


def _listed(harm: Any) -> tuple[str, ...]:
    return () if harm is None else (harm,) if isinstance(harm, str) else tuple(harm)


def _places(settings: EditSettings, sources: Sources) -> tuple[EditSettings, Sources]:
    """Replace `world:` names by paths."""
    roles = {name: getattr(sources, name) for name in SOURCES}
    resolved: dict[str, Any] = resolve_worlds({**roles, "harm": list(sources.harm)}, settings.seed)
    if settings.minus is not None:
        minus = resolve_worlds(dataclasses.asdict(settings.minus), settings.seed)
        settings = dataclasses.replace(settings, minus=type(settings.minus)(**minus))
    return settings, Sources(**resolved)


class _Target:
    """The target in memory, loaded where scores of its weights or a budget ask for it."""

    def __init__(self, source: str, template: str, progress: Any) -> None:
        self.source, self.template, self.progress = source, template, progress

    @cached_property
    def tokenizer(self) -> Any:
        from sa_lightning.models import load_tokenizer

        return load_tokenizer(self.source, self.template)

    @cached_property
    def model(self) -> Any:
        from sa_lightning.models import load_model

        return load_model(self.source, device="cuda" if torch.cuda.is_available() else "cpu")

    def score(self, kind: str, prompts: str, names: Sequence[str]) -> NamedTensors:
        from sa_lightning.fitting.examples import read_examples
        from sa_lightning.surgery import saliency_scores

        return saliency_scores(self.model, read_examples(prompts, self.tokenizer), names, kind, self.progress)

    def spend(self, plan: EditPlan, sources: Sources) -> None:
        """Find the plan's layer scales, where it has a budget."""
        from sa_lightning.fitting.examples import spend_budget

        if plan.settings.kl_budget is not None:
            spend_budget(plan, sources, self.model, self.tokenizer, self.progress)
