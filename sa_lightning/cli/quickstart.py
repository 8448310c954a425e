"""`sa quickstart`: see it work on a real chat model: fit a direction, a gate and a strength, measure, read replies."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from sa_lightning.cli import fit, validate
from sa_lightning.cli.common.inputs import parse, typed
from sa_lightning.cli.common.quickstart_surgery import write_harmful_copy
from sa_lightning.cli.common.quickstart_tiny import nothing_typed, run_invented
from sa_lightning.cli.common.side_by_side import show_replies
from sa_lightning.cli.common.verb import quieten
from sa_lightning.errors import SaError
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.names import resolve_worlds
from sa_lightning.outputs import Output
from sa_lightning.progress import lines
from sa_lightning.resources import shipped

MODEL = "world:smol/chat"
INVENTED = ("tiny", "micro")
ARMS = ("original", "steered", "gated")
SHOWN = 5  # prompts whose replies are shown side by side


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    parser = ArgumentParser(
        prog="sa quickstart",
        exit_on_error=False,
        description="Take a real chat model of 135 million parameters (SmolLM2-135M-Instruct, fetched once, cached), "
        "fit a direction, a gate and a strength on prompts of this package, measure the model as it is, steered, and "
        "steered behind the gate on others, and show the table and some replies. Nothing is trained. Writes "
        "OUTPUT/results.json, OUTPUT/report.html and OUTPUT/artifact.",
    )
    parser.add_argument("--output", type=str, required=True, help="Directory for everything.")
    parser.add_argument(
        "--model", type=str, default=MODEL, help="Another chat model: directory, Hub id, GGUF file or PEFT adapter."
    )
    parser.add_argument(
        "--world",
        type=str,
        default="smol",
        help="`smol` is the real model. `tiny` trains an invented world instead, in minutes, and measures both stages "
        "of Safety Arithmetic on it; `micro` takes seconds, and has learned nothing.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Of the run, and of an invented world.")
    parser.add_argument(
        "--target", type=str, default="chat", help="With `--world tiny`: `chat`, or `sft`, which lost some safety."
    )
    parser.add_argument(
        "--surgery",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Stage 1 as well: fine-tune a copy on openings that comply (some minutes), take the difference to it out "
        "of the weights, and measure the arms `edited` and `edited+gated`, too.",
    )
    parser.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace results.")
    options = parse(parser, "quickstart", arguments)
    command = typed("quickstart", arguments)
    if options.world not in ("smol", *INVENTED):
        raise SaError(
            f"There is no world `{options.world}` for a quickstart; choose smol, tiny or micro.\n"
            "`smol` is a real chat model, the others are invented.\nLeave `--world` out for the real one."
        )
    if options.world in INVENTED:
        if options.surgery:
            raise SaError(
                f"`--surgery` and `--world {options.world}` are both given.\n"
                "On an invented world both stages are fitted anyhow.\nLeave `--surgery` out."
            )
        if options.model != MODEL:
            raise SaError(
                f"`--model {options.model}` and `--world {options.world}` are both given.\n"
                "An invented world brings its models along.\nLeave one of the two out."
            )
        run_invented(options, command)
        return
    if options.target != "chat":
        raise SaError(
            f"There is no target `{options.target}` without an invented world.\n"
            "Its fine-tunes are made with it.\nAdd `--world tiny`, or name a model: `--model MODEL`."
        )
    names = ["results.json", "artifact", *(["harm"] if options.surgery else [])]
    output = Output(
        options.output, "quickstart", names, done=names[:2], overwrite=options.overwrite, foreign=fit.FOREIGN
    )
    with output, lines("sa quickstart"):
        run_real(options, command)


def run_real(options: Any, command: str) -> None:
    """Fit, measure and show.

    Args:
        options: `output`, `model`, `seed`, `surgery` and `overwrite`, as parsed.
        command: As it was typed.
    """
    output = Path(options.output)
    quieten()
    console, seconds = Terminal(), {}
    configs = shipped("configs") / "quickstart"

    console.rule("1/4  the model")
    began = time.perf_counter()
    if options.model == MODEL:
        console.print("SmolLM2-135M-Instruct, a real chat model (Apache-2.0): from the cache, or fetched once, 98 MB.")
    target = resolve_worlds(options.model, options.seed)
    seconds["model"] = time.perf_counter() - began
    common = [f"--seed_everything={options.seed}", f"--model.target={options.model}"]
    common += [f"--overwrite={options.overwrite}", f"--output={output}", "--trainer.devices=1"]
    common += [] if sys.stderr.isatty() else ["--trainer.enable_progress_bar=false"]

    console.rule("2/4  sa fit: a direction, a gate and a strength; nothing is trained")
    measure: list[str] = []
    learn = [f"--data.demonstrations={configs / 'pairs.jsonl'}", f"--steering.gate.prompts={configs / 'fit.jsonl'}"]
    learn += [] if options.model == MODEL else ["--steering.layers=null"]  # those of the config are of 30
    with nothing_typed():
        if options.surgery:
            began = time.perf_counter()
            with lines("a harmful copy, for stage 1") as report:
                harm = write_harmful_copy(target, configs / "fit.jsonl", output / "harm", options.seed, report)
            seconds["harmful copy"] = time.perf_counter() - began
            learn += [f"--surgery.harm={harm}", "--surgery.density=0.1", "--surgery.scale=1", "--no-save-edited"]
            measure += [f"--data.arms={json.dumps([*ARMS, 'edited', 'edited+gated'])}"]
        began = time.perf_counter()
        fit.run(["--config", str(configs / "fit.yaml"), *common, *learn], say_next=False)
        seconds["fit"] = time.perf_counter() - began
        console.rule("3/4  sa validate: as it is, steered, steered behind the gate; other prompts, greedy decoding")
        measure += [f"--evaluation.metadata.prompts={configs / 'measure.jsonl'}", f"--artifact={output / 'artifact'}"]
        validate.run(["--config", str(configs / "validate.yaml"), *common, *measure], command, seconds)

    console.rule(f"4/4  {SHOWN} harmless prompts that look like harmful ones, and what is said to them")
    show_replies(output / "replies.jsonl", "borderline", SHOWN, console)
    console.rule()
    console.print("Every number with its interval, paired tests, the gate's scores and more replies:")
    console.print(f"  {output / 'report.html'}", soft_wrap=True)
    console.print("\nTry next:")
    for line in _next(options, output):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _next(options: Any, output: Path) -> list[str]:
    """Commands to go on with."""
    target = shlex.join(["--model.target", options.model, "--artifact", str(output / "artifact")])
    return [
        f"sa predict {target} --data.gates_apart true --data.prompts '[\"How do I kill a process?\"]' "
        f"--output {shlex.quote(f'{output}/replies')}",
        f"sa validate --config configs/safety_arithmetic/validate.yaml {target} --limit 50 "
        f"--output {shlex.quote(f'{output}/benchmarks')}",
        "sa fit --config configs/safety_arithmetic/fit.yaml --model.target MODEL --data.demonstrations pairs.jsonl "
        "--output runs/mine",
    ]
