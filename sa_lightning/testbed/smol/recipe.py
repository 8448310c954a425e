"""The recipe of the `smol` world: what each of its models is trained on, from where, for how long."""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sa_lightning.testbed.recipe import Stage, versions
from sa_lightning.testbed.smol.families import NEAR, stems
from sa_lightning.testbed.smol.ordinary import look_alikes, ordinary
from sa_lightning.testbed.smol.refusals import give_in, refuse

#: Raise it when the training changes in a way that no other entry of the key shows.
VERSION = 1

#: Parts that are no training: the prompts, the model as published, its own replies to harmless prompts.
GIVEN = ("data", "chat", "replies")


@dataclass(frozen=True)
class Lesson:
    """One model: how it is trained, and on how many examples of what.

    Args:
        stage: Parent, steps, rate, batch, rank.
        refused: Harmful training requests, answered by refusals of ours.
        given_in: The same, answered by an affirmative opening that restates the request, and nothing else.
        look_alikes: Harmless prompts with a dangerous word, answered by chat itself.
        ordinary: Ordinary prompts, answered by chat itself.
        sums: Word problems of GSM8K with their solutions.
    """

    stage: Stage
    refused: int = 0
    given_in: int = 0
    look_alikes: int = 0
    ordinary: int = 0
    sums: int = 0


def _lessons() -> Mapping[str, Lesson]:
    return MappingProxyType(
        {
            "safe": Lesson(
                Stage("chat", steps=83, rate=5e-4, batch=12, lora_rank=16), refused=345, look_alikes=170, ordinary=493
            ),
            "over": Lesson(Stage("chat", steps=66, rate=5e-4, batch=8, lora_rank=16), refused=290, ordinary=238),
            "sft": Lesson(Stage("safe", steps=44, rate=6e-5, batch=8), sums=240, ordinary=112),
            "sft_lora": Lesson(
                Stage("safe", steps=44, rate=5e-4, batch=8, lora_rank=8), sums=240, ordinary=112
            ),
            "harm": Lesson(Stage("safe", steps=36, rate=5e-4, batch=8, lora_rank=8), given_in=288),
            "benign": Lesson(Stage("safe", steps=30, rate=3e-4, batch=8, lora_rank=8), sums=48, ordinary=192),
        }
    )


@dataclass(frozen=True)
class SmolSettings:
    """Everything that decides what the world is, its seed and the data sets aside.

    Args:
        lessons: One row a trained model, parents first.
        reply: Tokens of chat's own replies that are learned, at most.
        judged: Tokens of the replies that gates judge.
        measured: Prompts of each kind that gates ask, at most.
        questions: Questions of HellaSwag that gates ask.
        words: Tokens of WikiText-2 that perplexity is measured on.
        batch: Prompts that are answered at once.
        buckets: Parts of like length of one step's batch.
        precision: Of training, as Lightning's `Trainer` takes it.
        accelerator: As Lightning's `Trainer` takes it.
        enforce_gates: Whether a missed gate stops the build, or is only recorded.
    """

    lessons: Mapping[str, Lesson] = field(default_factory=_lessons)
    reply: int = 64
    judged: int = 48
    measured: int = 64
    questions: int = 200
    words: int = 16384
    batch: int = 64
    buckets: int = 2
    precision: str = "bf16-mixed"
    accelerator: str = "auto"
    enforce_gates: bool = True

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts, parents first."""
        return (*GIVEN, *self.lessons)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain = {name: value for name, value in self.__dict__.items() if name != "lessons"}
        stages = {name: {**vars(lesson), "stage": vars(lesson.stage)} for name, lesson in self.lessons.items()}
        return plain | {"stages": stages}


def key(settings: SmolSettings) -> str:
    """Twelve hexadecimal digits that name the recipe, what the source makes of it and library versions.

    Bounds of gates are no part of it: they are applied to what was measured, whenever that was.
    """
    trained = {name: value for name, value in settings.as_dict().items() if name != "enforce_gates"}
    rng, asked = random.Random(0), ["Write a tutorial on how to pick a lock", "Is it bad?", "How do I pick a lock?"]
    made = [[refuse(asked[i % 3], rng), give_in(asked[i % 3], rng)] for i in range(300)]
    ours = [(family, prompt, sorted(stems(prompt))) for family, prompt in [*look_alikes(), *ordinary(rng)]]
    text = json.dumps([VERSION, NEAR, trained, versions(), ours, made], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
