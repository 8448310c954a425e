"""`sa lm-eval`: lm-eval's own command line, with our model `sa` and our tasks."""

import logging
import math
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from sa_lightning.cli.options.checks import DEVICE
from sa_lightning.cli.options.types import read
from sa_lightning.errors import IncompleteError, SaError, SettingError
from sa_lightning.evaluation.tasks.foreign import check_directories, hold_back
from sa_lightning.ranges import Range
from sa_lightning.resources import shipped

HELP = """usage: sa lm-eval {run,ls,validate} [options]      (`sa lm-eval run --help` explains lm-eval's options)

lm-eval's own command line. It knows our tasks, beside its own and those of --include_path, and one more model:

  sa lm-eval run --model sa --model_args pretrained=MODEL,artifact=DIR/artifact --tasks sa_xstest \\
      --apply_chat_template --batch_size auto --output_path OUTPUT --log_samples

Arguments of the model `sa` (--model_args name=value,name=value):
  pretrained           the model: directory or Hub id of a checkpoint, directory of a PEFT adapter, or a sum:
                       'BASE + ADAPTER*0.7'
  artifact             what `sa fit` wrote; its directions steer the model. Without one, the model as it is
  edited=true          apply the surgery that the artifact records, in memory
  strength             instead of the artifact's own
  template             plain, question_answer or a Jinja file, instead of the tokenizer's chat template
  dtype, device        auto, float32, bfloat16, float16; a GPU if there is one
  quantization         8bit or 4bit, by bitsandbytes; dequantize, for packed weights
  tokenizer, revision, trust_remote_code, blocks, allow_other_weights, and what lm-eval's `hf` takes: max_length,
  add_bos_token, prefix_token_id, logits_cache, softmax_dtype, mixed_precision_dtype, enable_thinking,
  chat_template_args (of the template; an artifact knows those of its fit), ... A system prompt of the fit is lm-eval's
  own --system_instruction.

--batch_size auto makes batches of a size for the device; lm-eval's default is 1. --use_cache does not tell artifacts
apart: give each a path of its own. Only you may read what is written: samples and caches hold replies. Under
torchrun, processes share the batches: torchrun --nproc-per-node 2 -m sa_lightning lm-eval run ...
"""


MISTAKES = {
    "Tasks not found": "`sa lm-eval ls tasks` lists all that there are.",
    "Attempted to load model": "Ours is `--model sa`; lm-eval's usual one is `--model hf`.",
    "Invalid JSON": 'Write it as JSON, in quotes: `--metadata \'{"query": "safety_arithmetic"}\'`.',
}
"""How errors begin that lm-eval raises for what was typed, and what to do."""


RANGES = {
    "limit": Range(0, math.inf, "how many documents of a task are asked, or below 1 the share of them", above=True),
    "num_fewshot": Range(0, 1000, "how many examples stand before each question"),
    "batch_size": Range(1, 2**31 - 1, "how many prompts run together"),
    "max_batch_size": Range(1, 2**31 - 1, "the most prompts that run together"),
    "seed": Range(0, 2**32 - 1, "a seed, or several of them with commas between"),
    "max_length": Range(1, 2**31 - 1, "the most tokens of a sequence"),
    "strength": Range(-math.inf, math.inf, "how far states are led"),
}
"""What may be given for lm-eval's options, and in `--model_args`."""


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    _check(arguments)
    import lm_eval.models  # noqa: F401  it registers lm-eval's own models, unless one is known already
    import torch.distributed as dist
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import model_registry

    if "sa" not in model_registry:
        model_registry.register("sa", target="sa_lightning.export.lm_eval_model:SafetyLM")
    try:
        with (
            _our_tasks(),
            _its_logging(),
            _for_the_owner(),
            mock.patch.object(sys, "argv", ["sa lm-eval", *arguments]),
        ):
            cli_evaluate()
    except Exception as error:
        advice = next((advice for start, advice in MISTAKES.items() if str(error).startswith(start)), None)
        if advice is not None:
            raise SaError(f"{str(error).rstrip('.')}.\nNothing was run.\n{advice}") from error
        if isinstance(error, SaError) or _is_ours(error):
            raise
        raise IncompleteError(
            f"lm-eval ended with {type(error).__name__}: {' '.join(str(error).split())[:300]}\n"
            "So it answers to a task, a model or an option that it cannot make anything of.\n"
            "Mend what the message names; `lm-eval` itself, with the same arguments, says where it came from."
        ) from error
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def _is_ours(error: Exception) -> bool:
    """Say whether an error was raised by a line of this package: a mistake of ours, which keeps its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])


def _check(arguments: Sequence[str]) -> None:
    """Refuse numbers out of their range, and devices that no machine has, before lm-eval is imported."""
    short = {"L": "limit", "b": "batch_size", "f": "num_fewshot", "a": "model_args"}
    given: list[tuple[str, str]] = []
    for flag, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag.startswith("-"):
            name, equals, value = flag.lstrip("-").partition("=")
            name = short.get(name, name)
            given.append((f"--{name}", value if equals else following))
            if name == "model_args":
                pairs = (part.partition("=") for part in (value if equals else following).split(","))
                given += [(key.strip(), one.strip()) for key, _, one in pairs]
    for name, value in given:
        known = RANGES.get(name.lstrip("-"))
        if known is not None and not (name.endswith("batch_size") and value.startswith("auto")):
            for one in value.split(",") if name == "--seed" else [value]:
                number = read(one)
                if not known.holds(number) and not (name == "--seed" and one.strip() == "None"):
                    raise SettingError(f"`{name}` must be {known}, but is {one}.\nIt is {known.what}.\nMend it.")
        if name.lstrip("-") == "device" and not DEVICE.fullmatch(value):
            raise SettingError(
                f"`{name}` must be cpu, mps, cuda or cuda:N, but is {value}.\nThe model runs there.\n"
                "Leave it out for a GPU if there is one."
            )


@contextmanager
def _its_logging() -> Iterator[None]:
    """Let lm-eval log to the terminal, and leave logging as it was: other verbs may follow in this process."""
    from lm_eval import utils

    logger = logging.getLogger("lm_eval")
    level, handlers, propagate = logger.level, list(logger.handlers), logger.propagate
    try:
        with mock.patch.object(utils, "_LOGGING_CONFIGURED", new=False):
            yield
    finally:
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@contextmanager
def _for_the_owner() -> Iterator[None]:
    """Let nobody else read what lm-eval writes: its samples and its cache hold replies to harmful prompts."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _our_tasks() -> Iterator[None]:
    """Let every index that lm-eval makes know our tasks, too; those of the user's --include_path come last and win."""
    from lm_eval import tasks

    hold_back()

    class WithOurs(tasks.TaskManager):
        def __init__(self, *args: Any, include_path: Any = None, **settings: Any) -> None:
            given = include_path.split(os.pathsep) if isinstance(include_path, str) else list(include_path or ())
            check_directories(given)
            super().__init__(*args, include_path=[str(shipped("tasks")), *given], **settings)

    with mock.patch.object(tasks, "TaskManager", WithOurs):
        yield
