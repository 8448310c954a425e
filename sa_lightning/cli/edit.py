"""`sa edit`: weight surgery alone, from checkpoints to a checkpoint, without a Trainer."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser

from sa_lightning.cli.common.inputs import parse, typed
from sa_lightning.errors import SettingError
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.names import resolve_worlds
from sa_lightning.progress import stages
from sa_lightning.surgery import EditPlan, Sources, SurgeryOptions, check_output, check_settings, write_edit

OPTIONS = tuple(field.name for field in dataclasses.fields(SurgeryOptions) if field.init)


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
    found.add_class_arguments(SurgeryOptions, as_group=False, skip={"base"})
    found.add_argument(
        "--write",
        type=Literal["checkpoint", "known", "measured"],
        default="checkpoint",
        help="What OUTPUT is. With `facts`, instead of a checkpoint, a JSONL file of facts: those that the model "
        "knows, put into its own words with what it says to their neighbours; or measured: each written by itself in "
        "memory, asked for, and undone.",
    )
    found.add_argument(
        "--template", type=str, default="chat", help="How `prompts` are written: chat, plain, or a Jinja file."
    )
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    found = parser()
    config = parse(found, "edit", arguments)
    given = found.instantiate(config)
    options = SurgeryOptions(**{name: getattr(given, name) for name in OPTIONS})
    sources, settings = options.split()
    check_settings(sources, settings)
    if config.write != "checkpoint" and sources.facts is None:
        raise SettingError(
            f"`--write {config.write}` is about facts, and there is no `--facts`.\nGive a file of them, or leave it out."
        )
    sources, settings = _placed(options).split()
    if config.write != "checkpoint":
        _write_facts(sources, config)
        return
    from sa_lightning.fitting import Surgery  # with transformers: once the options make sense

    console = Terminal()
    surgery = Surgery(sources, settings)
    surgery.warn = lambda text: console.warn("Warning:", text)
    target = sources.target or sources.known_base
    opened = surgery.open(target)
    read = [sources.scores, sources.prompts, sources.kl_prompts, sources.direction]
    read += [settings.minus.scores, settings.minus.prompts] if settings.minus is not None else []
    output = check_output(config.output, opened, overwrite=config.overwrite, also=[place for place in read if place])
    with stages(console, "sa edit") as progress:
        plan = surgery.planned(cache(lambda: _loaded(target, config.template)), report=progress)
        command = typed("edit", arguments)
        write_edit(plan, output, overwrite=config.overwrite, command=command, progress=progress, resume=config.resume)
    console.print(summary(plan), highlight=False)
    if plan.control:
        console.warn("A control, not a method:", f"{plan.control}.")
    console.wrote(output, "edited checkpoint; surgery.json says what changed")


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


def _write_facts(sources: Sources, config: Any) -> None:
    """Write facts that the model knows, or what became of each that was written into it by itself."""
    from sa_lightning.evaluation.statistics.intervals import rate
    from sa_lightning.facts import Asking, editor_of, facts_of, measure_one_by_one, totals, write_facts

    console, output = Terminal(), Path(config.output).expanduser()
    if output.exists() and not (config.overwrite and output.is_file()):
        raise SettingError(f"{output} exists already.\nNothing is replaced unasked. Choose another file.")
    with stages(console, "sa edit") as progress:
        model, tokenizer = _loaded(sources.target or sources.known_base, config.template)
        asking = Asking(model, tokenizer, sources.facts_form != "plain")
        if config.write == "known":
            facts = facts_of(dataclasses.replace(sources, facts_known=True), asking)
            write_facts(facts, output)
            console.wrote(output, f"{len(facts)} facts that the model knows, in its own words")
            return
        facts = facts_of(sources, asking)
        outcomes = []
        for outcome in measure_one_by_one(editor_of(sources, asking, progress), facts):
            outcomes.append(outcome)
            progress("measuring facts", len(outcomes), len(facts))
    write_facts([outcome.fact for outcome in outcomes], output, [outcome.row() for outcome in outcomes])
    for name, (k, n) in totals(outcomes).items():
        _, low, high = rate(k, n).percent
        console.print(f"{name:12} {k}/{n} [{low:.0f}, {high:.0f}] %" if n else f"{name:12} no prompts", highlight=False)
    console.wrote(output, f"{len(outcomes)} facts, each written by itself, and what became of it")


def _placed(options: SurgeryOptions) -> SurgeryOptions:
    """Replace `world:` names by paths."""
    sources = {**options.given(), "harm": options.harms}
    found: dict[str, Any] = resolve_worlds(sources, options.seed)
    if options.minus is not None:
        found["minus"] = dataclasses.replace(
            options.minus, **resolve_worlds(dataclasses.asdict(options.minus), options.seed)
        )
    return dataclasses.replace(options, **found)


def _loaded(source: str, template: str) -> tuple[Any, Any]:
    """The target in memory, and its tokenizer."""
    from sa_lightning.models import load_model, load_tokenizer

    return load_model(source, device="cuda" if torch.cuda.is_available() else "cpu"), load_tokenizer(source, template)
