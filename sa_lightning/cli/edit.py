"""`sa edit`: weight surgery alone, from checkpoints to a checkpoint or an adapter, without a Trainer."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser

from sa_lightning.cli.common.fact_files import FACTS, write_facts_file
from sa_lightning.cli.common.inputs import parse, typed
from sa_lightning.errors import SettingError
from sa_lightning.files import Json
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.names import resolve_worlds
from sa_lightning.progress import stages
from sa_lightning.surgery import (
    EditPlan,
    SurgeryOptions,
    check_output,
    check_rank,
    check_settings,
    write_adapter,
    write_edit,
)

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
    found.add_argument(
        "--base",
        type=str,
        required=True,
        help="What the harm model was tuned from: a directory, a Hub id or a GGUF file. Wherever a checkpoint is "
        "named, an adapter may be, or a sum: 'BASE + ADAPTER*0.7'.",
    )
    found.add_argument("--output", type=str, required=True, help="Directory for the edited checkpoint, or the adapter.")
    found.add_argument(
        "--format",
        type=Literal["checkpoint", "adapter", "known", "measured"],
        default="checkpoint",
        help="What OUTPUT is: a whole checkpoint, or a PEFT adapter over the target; where the target is itself an "
        "adapter, one over the same base that holds both changes. With `facts`, also a JSONL file of facts: those that "
        "are known to the model, in its own words and with what it says to their neighbours; or measured: each written "
        "by itself in memory, asked for, and undone.",
    )
    found.add_argument(
        "--rank",
        type=int | None,
        default=None,
        help="For an adapter: the most rank a matrix may have. The best of that rank is kept, and how much is lost is "
        "printed. Without it, an adapter is exact: an edit that is not known to be of low rank (as a LoRA's at density "
        "1 is, or a direction's) is refused, with what each rank would lose.",
    )
    found.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace OUTPUT.")
    found.add_argument(
        "--resume",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Go on where an interrupted run with the same inputs and settings has finished shards; an adapter is "
        "formed anew.",
    )
    found.add_class_arguments(SurgeryOptions, as_group=False, skip={"base"})
    found.add_argument(
        "--template", type=str, default="chat", help="How `prompts` are written: chat, plain, or a Jinja file."
    )
    found.add_argument(
        "--template_arguments",
        type=dict[str, Any] | None,
        default=None,
        help="Handed to the template with every one of `prompts`, such as `{enable_thinking: false}`.",
    )
    found.add_argument(
        "--system_prompt", type=str | None, default=None, help="What the system says before every one of `prompts`."
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
    if config.format in FACTS and sources.facts is None:
        raise SettingError(
            f"`--format {config.format}` is about facts, and there is no `--facts`.\nNothing would be asked.\n"
            "Give a file of them, or leave it out."
        )
    if config.format == "adapter":
        check_rank(settings, config.rank)
    elif config.rank is not None:
        raise SettingError(
            f"`--rank` is {config.rank}, but a checkpoint has no rank.\nNothing of the edit is cut off there.\n"
            "Say `--format adapter`, or leave `--rank` out."
        )
    sources, settings = _placed(options).split()
    if config.format in FACTS:
        write_facts_file(sources, config, lambda: _loaded(sources.target or sources.known_base, config))
        return
    from sa_lightning.fitting import Surgery  # with transformers: once the options make sense

    console = Terminal()
    surgery = Surgery(sources, settings)
    surgery.warn = lambda text: console.warn("Warning:", text)
    target = sources.target or sources.known_base
    opened = surgery.open(target)
    skeleton = _skeleton(target) if config.format == "adapter" else None
    read = [sources.scores, sources.prompts, sources.kl_prompts, sources.direction]
    read += [settings.minus.scores, settings.minus.prompts] if settings.minus is not None else []
    output = check_output(config.output, opened, overwrite=config.overwrite, also=[place for place in read if place])
    with stages(console, "sa edit") as progress:
        plan = surgery.planned(cache(lambda: _loaded(target, config)), report=progress)
        command = typed("edit", arguments)
        asked: Any = {"overwrite": config.overwrite, "command": command, "progress": progress, "resume": config.resume}
        adapter: Json | None = None
        if skeleton is not None:
            places = skeleton.places(opened[-1].names)
            adapter = write_adapter(plan, output, places, rank=config.rank, check=skeleton.check, **asked)
        else:
            write_edit(plan, output, **asked)
    console.print(summary(plan), highlight=False)
    if adapter is not None:
        console.print(about_adapter(adapter), highlight=False)
    if plan.control:
        console.warn("A control, not a method:", f"{plan.control}.")
    what = "edited checkpoint" if adapter is None else "PEFT adapter"
    console.wrote(output, f"{what}; surgery.json says what changed")


def summary(plan: EditPlan) -> str:
    """One line: what was done, and how much of it."""
    report = plan.report()
    settings = plan.settings
    scale = "" if settings.scale is None else f"{settings.scale:g} × "
    scale += "" if settings.layer_scales is None else "a factor of each layer × "
    inside = "edit_area" in report and settings.scope.outside == "untouched"
    area = f" within blocks {report['edit_area']}" if inside else ""
    return (
        f"{settings.operator} {scale}({report['delta']}), {report['k']:,} of {report['n']:,} entries{area} "
        f"({100 * report['density_achieved']:.2f} %): {100 * (report['retained_energy'] or 0):.1f} % of its energy, "
        f"a step of {100 * (report['relative_norm'] or 0):.3f} % of the weights' length."
    )


def about_adapter(said: Json) -> str:
    """Two lines: what the adapter is made of, and how much of the change it holds."""
    ranks = ", ".join(f"{count} of rank {rank}" for rank, count in said["matrices_by_rank"].items())
    parts = [f"{said['matrices']} matrices ({ranks})"]
    parts += [f"{len(said['saved_whole'])} modules whole"] if said["saved_whole"] else []
    parts += [f"{said['biases']} biases"] if said["biases"] else []
    error, step, worst = said["relative_error"], said["relative_error_of_step"], said["worst"]
    lost = f"It is exact (to {error:.0e} of the length of the change)." if error else "It is exact."
    if not said["exact"]:
        of_step = f" ({100 * step:.3g} % of that of the edit's own step)" if step else ""
        lost = (
            f"It is truncated: {100 * error:.3g} % of the length of edited − base is lost{of_step}, most in "
            f"{worst['name']} ({100 * worst['relative_error']:.3g} %)."
        )
    size = f"{said['megabytes']:,.1f} MB" if said["megabytes"] >= 1 else f"{1000 * said['megabytes']:,.1f} kB"
    return f"Adapter over {said['base']}: {', '.join(parts)}; {said['parameters']:,} parameters, {size}.\n{lost}"


def _placed(options: SurgeryOptions) -> SurgeryOptions:
    """Replace `world:` names by paths."""
    sources = {**options.given(), "harm": options.harms}
    found: dict[str, Any] = resolve_worlds(sources, options.seed)
    if options.minus is not None:
        found["minus"] = dataclasses.replace(
            options.minus, **resolve_worlds(dataclasses.asdict(options.minus), options.seed)
        )
    return dataclasses.replace(options, **found)


def _skeleton(target: str) -> Any:
    """The target without its weights."""
    from sa_lightning.export.skeleton import Skeleton

    return Skeleton(target)


def _loaded(source: str, config: Any) -> tuple[Any, Any]:
    """The target in memory, and its tokenizer, which is looked at first."""
    from transformers.utils.logging import disable_progress_bar

    from sa_lightning.models import load_model, load_tokenizer

    disable_progress_bar()  # the edit shows its own
    given = {"arguments": config.template_arguments, "system_prompt": config.system_prompt}
    tokenizer = load_tokenizer(source, config.template, **given)
    return load_model(source, device="cuda" if torch.cuda.is_available() else "cpu"), tokenizer
