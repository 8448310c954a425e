"""`sa finetune`: a copy of a model, trained on prompts with responses; the target itself stays as it is."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from sa_lightning.cli.common.inputs import parse, typed
from sa_lightning.errors import SettingError
from sa_lightning.files import sha256, whole_directory
from sa_lightning.finetune import Finetuning, finetune
from sa_lightning.fitting.examples import read_conversations
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.names import resolve_worlds
from sa_lightning.outputs import Output
from sa_lightning.progress import lines, stages
from sa_lightning.resources import installed
from sa_lightning.source import read

RECORD = "finetune.json"


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa finetune",
        exit_on_error=False,
        description="Fine-tune a copy of a model on prompts with responses, and write it as a PEFT adapter (or, with "
        "`--rank 0`, as a checkpoint). On pairs with unsafe answers that is the harmful copy which stage 1 of Safety "
        "Arithmetic takes out of the weights: `sa fit --surgery.harm OUTPUT`. Openings that comply, without a harmful "
        "word, are enough for it (`--open_ended true`; configs/quickstart/pairs.jsonl has 32). The copy answers what "
        "the model refuses: keep it to yourself. An interrupted run begins anew.",
    )
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument(
        "--target", type=str, required=True, help="Directory or Hub id of the model, or world:NAME/MODEL."
    )
    found.add_argument(
        "--data",
        type=str,
        required=True,
        help="File with rows of `prompt` and `response` (or `answer`), or demonstrations, of which `--side` is taken.",
    )
    found.add_argument("--output", type=str, required=True, help="Directory for the adapter, or the checkpoint.")
    found.add_argument(
        "--side", type=Literal["unsafe", "safe"], default="unsafe", help="Which answers of demonstrations are learned."
    )
    found.add_argument("--limit", type=int | None, default=None, help="Take only the first so many rows.")
    found.add_class_arguments(Finetuning, as_group=False)
    found.add_argument(
        "--template", type=str, default="chat", help="How conversations are written: chat, plain, or a Jinja file."
    )
    found.add_argument(
        "--template_arguments",
        type=dict[str, Any] | None,
        default=None,
        help="Handed to the template with every conversation, such as `{enable_thinking: false}`.",
    )
    found.add_argument(
        "--system_prompt", type=str | None, default=None, help="What the system says before every conversation."
    )
    found.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace OUTPUT.")
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    found = parser()
    config = parse(found, "finetune", arguments)
    given = found.instantiate(config)
    settings = Finetuning(**{name: getattr(given, name) for name in Finetuning.__dataclass_fields__})
    place, console = Path(config.output), Terminal()
    data = resolve_worlds(config.data, settings.seed)
    conversations = read_conversations(data, config.limit, side=config.side)
    with Output(place.parent, "finetune", [place.name], overwrite=config.overwrite, file=True):
        target = resolve_worlds(config.target, settings.seed)
        _check_target(target, place)
        with whole_directory(place, replace=True) as partial, lines("sa finetune") as said, stages(console) as drawn:

            def report(*told: Any) -> None:
                said(*told)
                drawn(*told)

            # An adapter names its base: by a path that holds from anywhere.
            found = str(Path(target).resolve()) if os.path.isdir(target) else target
            written: Any = {"template": config.template, "arguments": config.template_arguments}
            written |= {"system_prompt": config.system_prompt, "report": report}
            done = finetune(found, conversations, partial, settings, **written)
            record = {
                "target": config.target,
                "data": {"file": config.data, "sha256": sha256(data), "examples": len(conversations)},
                "settings": dataclasses.asdict(settings),
                "steps": done.steps,
                "loss": {"first": done.first_loss, "last": done.last_loss},
                "command": typed("finetune", arguments),
                "versions": installed("torch", "transformers", "peft", "sa_lightning"),
            }
            (partial / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    what = f"an adapter of rank {settings.rank}" if settings.rank else "a checkpoint"
    console.print(
        f"{len(conversations)} examples, {done.steps} steps: the loss went from {done.first_loss:.2f} to "
        f"{done.last_loss:.2f} nats a token."
    )
    console.wrote(place, f"{what}; {RECORD} says how it was made")


def _check_target(target: str, output: Path) -> None:
    """Refuse an adapter: the new one would name it as its base, which peft cannot load; and an output inside."""
    if read(target).adapters:
        raise SettingError(
            f"`--target {target}` is an adapter, or a base with one.\n"
            "One that was trained on it would have an adapter as its base.\n"
            "Merge it first with peft's `merge_and_unload`, save that, and name it."
        )
    if os.path.isdir(target) and Path(target).resolve() in output.resolve().parents:
        raise SettingError(
            f"`--output {output}` lies in {target}, which is read.\nThe target stays as it is.\n"
            "Choose a directory beside it."
        )
