"""`sa quickstart`: the whole story on the tiny world: train it, align a model of it, measure it."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from sa_lightning.cli import fit, validate
from sa_lightning.cli.inputs import refuse_existing, resolve_worlds, shipped, typed
from sa_lightning.errors import SaError

TARGETS = {"chat": "chat", "sft": "sft_lora"}
CONFIGS = {"chat": "fit.yaml", "sft": "fit_sft.yaml"}


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    parser = ArgumentParser(
        prog="sa quickstart",
        exit_on_error=False,
        description="Train the tiny world (once, cached), fit both stages of Safety Arithmetic on one of its models, "
        "measure four arms, and show the table. Writes OUTPUT/results.json and OUTPUT/report.html.",
    )
    parser.add_argument("--output", type=str, required=True, help="Directory for everything.")
    parser.add_argument("--seed", type=int, default=0, help="Of the world and the run.")
    parser.add_argument(
        "--target", type=str, default="chat", help="`chat`, or `sft`: a LoRA fine-tune that lost some safety."
    )
    parser.add_argument(
        "--world", type=str, default="tiny", help="`tiny`, or `micro`: seconds to build, and it has learned nothing."
    )
    parser.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace results.")
    options = parser.parse_args(list(arguments))
    if options.target not in TARGETS:
        raise SaError(
            f"There is no target `{options.target}` in the tiny world; choose `chat` or `sft`.\n"
            "It is the model that is made safer.\nPass `--target chat`."
        )
    output = Path(options.output)
    refuse_existing([output / "results.json", output / "fit" / "artifact"], options.overwrite)
    console = Console()
    world = f"world:{options.world}"
    target = f"{world}/{TARGETS[options.target]}"

    console.rule("1/3  the tiny world: small models with known behaviour")
    began = time.perf_counter()
    resolve_worlds([target, f"{world}/harm"], options.seed)
    seconds = {"world": time.perf_counter() - began}
    common = [f"--seed_everything={options.seed}", f"--model.target={target}", f"--overwrite={options.overwrite}"]
    # One process: others would be started by typing this command again, and small models gain nothing from them.
    common += ["--trainer.devices=1"]
    learn = [f"--surgery.base={world}/chat", f"--surgery.harm={world}/harm"]
    learn += [f"--data.demonstrations={world}/data/demonstrations.jsonl", f"--output={output / 'fit'}"]
    artifact = output / "fit" / "artifact"
    measure = [f"--evaluation.metadata.world={world}", f"--artifact={artifact}", f"--output={output}"]
    configs = shipped("configs") / "tiny"

    console.rule("2/3  sa fit: remove the harm direction, fit a safety direction")
    command = typed("quickstart", arguments)
    with _nothing_typed():
        began = time.perf_counter()
        fit.run(["--config", str(configs / CONFIGS[options.target]), *common, *learn], say_next=False)
        seconds["fit"] = time.perf_counter() - began
        console.rule("3/3  sa validate: four arms, the same prompts, the same greedy decoding")
        validate.run(["--config", str(configs / "validate.yaml"), *common, *measure], command, seconds)
    console.print("\nTry next:")
    seed = f"--seed_everything {options.seed}"
    for line in (
        f"sa predict --config configs/tiny/predict.yaml {seed} --model.target {target} --artifact {artifact} "
        f"--output {output}/replies",
        f"sa validate --config configs/tiny/validate.yaml {seed} --model.target {target} --artifact {artifact} "
        f"--data.random_directions 20 --output {output}/controls",
        "sa fit --config configs/safety_arithmetic/fit.yaml --model.target MODEL --surgery.harm HARM "
        "--data.demonstrations pairs.jsonl --output runs/mine",
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


@contextmanager
def _nothing_typed() -> Iterator[None]:
    """Run verbs in this process with nothing on `sys.argv`, which Lightning looks at."""
    saved, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = saved
