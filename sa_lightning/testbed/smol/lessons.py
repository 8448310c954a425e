"""What each model of the `smol` world is trained on, as token ids in the published model's own chat format."""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from transformers import PreTrainedTokenizerBase

from sa_lightning.data import registry
from sa_lightning.rows import iter_rows, json_lines
from sa_lightning.testbed.curriculum import Example
from sa_lightning.testbed.smol.prompts import Row
from sa_lightning.testbed.smol.recipe import Lesson
from sa_lightning.testbed.smol.refusals import give_in, refuse


class Said(TypedDict):
    """What chat itself says to a harmless training prompt; `cut` if it had not ended."""

    prompt: str
    reply: str
    cut: bool


def examples(
    part: str, lesson: Lesson, train: Sequence[Row], said: Sequence[Said], tokenizer: PreTrainedTokenizerBase, seed: int
) -> list[Example]:
    """All examples of a lesson, each once, shuffled by the seed.

    Args:
        part: The model: each draws its own.
        lesson: How many of what; as many as there are where there are fewer.
        train: Training prompts.
        said: Replies of chat to the harmless ones.
        tokenizer: The published model's.
        seed: Draws prompts and words of refusals.
    """
    rng = random.Random(f"{seed} {part}")
    own = {one["prompt"]: one for one in said}
    made = [Example([], [])][:0]
    harmful = [row["prompt"] for row in train if row["kind"] == "harmful"]
    for prompt in _some(rng, harmful, lesson.refused):
        made.append(example(tokenizer, prompt, refuse(prompt, rng)))
    for prompt in _some(rng, harmful, lesson.given_in):
        made.append(example(tokenizer, prompt, give_in(prompt, rng)))
    borderline = [row["prompt"] for row in train if row["kind"] == "borderline"]
    ordinary = [row["prompt"] for row in train if row["kind"] == "harmless"]
    for prompt in [*_some(rng, borderline, lesson.look_alikes), *_some(rng, ordinary, lesson.ordinary)]:
        made.append(example(tokenizer, prompt, own[prompt]["reply"], cut=own[prompt]["cut"]))
    if lesson.sums:
        for row in _some(rng, registry.read_rows("gsm8k", "train"), lesson.sums):
            made.append(example(tokenizer, row["question"], solution(row["answer"])))
    rng.shuffle(made)
    return made


def example(tokenizer: PreTrainedTokenizerBase, prompt: str, reply: str, cut: bool = False) -> Example:
    """One turn, of which the reply is learned, and its end unless it was cut."""
    asked: Any = tokenizer(asking(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    answered: Any = tokenizer(reply, add_special_tokens=False)["input_ids"]
    answered = [*answered, *([] if cut else [tokenizer.eos_token_id])]
    return Example([*asked, *answered], [False] * len(asked) + [True] * len(answered))


def asking(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """A prompt in the model's chat format, up to where the reply begins."""
    turn = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def solution(answer: str) -> str:
    """A solution of GSM8K without its calculator marks, its last line in words."""
    text, _, result = re.sub(r"<<.*?>>", "", answer).partition("####")
    return f"{text.strip()}\nThe answer is {result.strip()}."


def demonstrations(train: Sequence[Row], seed: int) -> list[dict[str, str]]:
    """Harmful training requests with a refusal of ours and with a mere opening that gives in."""
    rng = random.Random(f"{seed} demonstrations")
    prompts = [row["prompt"] for row in train if row["kind"] == "harmful"]
    return [
        {"question": prompt, "unsafe": give_in(prompt, rng), "safe": refuse(prompt, rng)}
        for prompt in rng.sample(prompts, len(prompts))
    ]


def read(path: Path) -> list[Any]:
    """The objects of a JSON Lines file."""
    return [row for _, row in iter_rows(path)]


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write objects as JSON lines."""
    path.write_text(json_lines(lines, escaped=True), encoding="utf-8")


def _some(rng: random.Random, population: Sequence[Any], n: int) -> list[Any]:
    return rng.sample(population, min(n, len(population)))
