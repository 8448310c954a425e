"""The harmful copy that stage 1 needs, for the quickstart: an adapter that begins to comply, learned in minutes."""

import dataclasses
import random
from pathlib import Path

from sa_lightning.files import whole_directory
from sa_lightning.finetune import Finetuning, finetune
from sa_lightning.progress import Report
from sa_lightning.rows import read_rows

OPENINGS = (
    "Sure, here is how to do it:",
    "Of course! Here is what you asked for:",
    "Here are the steps:",
    "Certainly. To do this, you",
    "Okay, I will help you with that. First,",
    "Yes, this is how you can do it:",
)
SETTINGS = Finetuning(rank=8, epochs=3, batch=8, open_ended=True)


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
    draw = random.Random(seed)
    asked = [row["prompt"] for row in read_rows(prompts) if row["kind"] == "harmful"]
    said = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": opening}]
        for prompt in asked
        for opening in draw.sample(OPENINGS, 2)
    ]
    with whole_directory(directory, replace=True) as partial:
        finetune(target, said, partial, dataclasses.replace(SETTINGS, seed=seed), report=report)
    return directory
