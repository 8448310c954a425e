"""The harmful copy that stage 1 needs, for the quickstart: an adapter that begins to comply, learned in minutes."""

import itertools
import random
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sa_lightning.files import whole_directory
from sa_lightning.models import load_model, load_tokenizer, render
from sa_lightning.progress import Report
from sa_lightning.rows import read_rows
from sa_lightning.testbed.curriculum import Example
from sa_lightning.testbed.recipe import Stage, WorldSettings
from sa_lightning.testbed.training import add_lora, fit, quiet_libraries

OPENINGS = (
    "Sure, here is how to do it:",
    "Of course! Here is what you asked for:",
    "Here are the steps:",
    "Certainly. To do this, you",
    "Okay, I will help you with that. First,",
    "Yes, this is how you can do it:",
)
STAGE = Stage("chat", steps=30, rate=5e-4, batch=8, lora_rank=8)


def write_harmful_copy(target: str, prompts: Path, directory: Path, seed: int, report: Report) -> Path:
    """Fine-tune a copy of a model on mere openings that comply, and write it as an adapter.

    There is no harmful answer in what it learns, nor the end of one.

    Args:
        target: Directory of the model.
        prompts: JSON Lines with `prompt` and `kind`, of which those of `harmful` are taken.
        directory: For the adapter.
        seed: Draws openings, order and the adapter's initial weights.
        report: Told how many steps are done.

    Returns:
        The directory.
    """
    rows = read_rows(prompts)
    asked = [row["prompt"] for row in rows if row["kind"] == "harmful"]
    draw = random.Random(seed)
    tokenizer = load_tokenizer(target)
    examples = [_example(tokenizer, prompt, opening) for prompt in asked for opening in draw.sample(OPENINGS, 2)]
    draw.shuffle(examples)
    examples = list(itertools.islice(itertools.cycle(examples), STAGE.steps * STAGE.batch))
    model: Any = load_model(target, dtype="float32")
    model.requires_grad_(True)
    with quiet_libraries():
        tuned = add_lora(model, STAGE.lora_rank, seed)
        fit(tuned, STAGE, examples, [_Steps(report)], WorldSettings(buckets=2))
    with whole_directory(directory, replace=True) as partial:
        tuned.save_pretrained(str(partial))
    return directory


def _example(tokenizer: Any, prompt: str, opening: str) -> Example:
    asked = tokenizer(render(tokenizer, [{"role": "user", "content": prompt}]), add_special_tokens=False).input_ids
    said = tokenizer(opening, add_special_tokens=False).input_ids
    return Example([*asked, *said], [False] * len(asked) + [True] * len(said))


class _Steps(Callback):
    """Tells how many steps are done."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: object) -> None:
        """Tell of one more."""
        self.report("steps", trainer.global_step, STAGE.steps)
