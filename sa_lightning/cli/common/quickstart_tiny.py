"""`sa quickstart --world tiny`: the whole story on an invented world: train it, align a model of it, measure it."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sa_lightning.cli import fit, validate
from sa_lightning.errors import SaError
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.names import resolve_worlds
from sa_lightning.outputs import Output
from sa_lightning.resources import shipped

TARGETS = {"chat": "chat", "sft": "sft_lora"}
CONFIGS = {"chat": "fit.yaml", "sft": "fit_sft.yaml"}


def run_invented(options: Any, command: str) -> None:
    """Train an invented world, fit both stages on one of its models, measure four arms.

    Args:
        options: `output`, `world`, `seed`, `target` and `overwrite`, as parsed.
        command: As it was typed.

    Raises:
        SaError: If there is no such target.
    """
    if options.target not in TARGETS:
        raise SaError(
            f"There is no target `{options.target}` in the tiny world; choose `chat` or `sft`.\n"
            "It is the model that is made safer.\nPass `--target chat`."
        )
    output = Path(options.output)
    how: Any = {"overwrite": options.overwrite, "foreign": fit.FOREIGN}
    with (
        Output(output, "quickstart", ["results.json"], **how),
        Output(output / "fit", "fit", ["artifact", "edited"], **how),
    ):
        _run(options, output, command)


def _run(options: Any, output: Path, command: str) -> None:
    console = Terminal()
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
    with nothing_typed():
        began = time.perf_counter()
        fit.run(["--config", str(configs / CONFIGS[options.target]), *common, *learn], say_next=False)
        seconds["fit"] = time.perf_counter() - began
        console.rule("3/3  sa validate: four arms, the same prompts, the same greedy decoding")
        validate.run(["--config", str(configs / "validate.yaml"), *common, *measure], command, seconds)
    console.print("\nTry next:")
    seed = f"--seed_everything {options.seed}"
    fitted, beside = shlex.quote(str(artifact)), shlex.quote(str(output))
    for line in (
        f"sa predict --config configs/tiny/predict.yaml {seed} --model.target {target} --artifact {fitted} "
        f"--output {beside}/replies",
        f"sa validate --config configs/tiny/validate.yaml {seed} --model.target {target} --artifact {fitted} "
        f"--data.random_directions 20 --output {beside}/controls",
        "sa fit --config configs/safety_arithmetic/fit.yaml --model.target MODEL --surgery.harm HARM "
        "--data.demonstrations pairs.jsonl --output runs/mine",
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


@contextmanager
def nothing_typed() -> Iterator[None]:
    """Run verbs in this process with nothing on `sys.argv`, which Lightning looks at."""
    saved, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = saved
