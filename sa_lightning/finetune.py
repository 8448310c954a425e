"""Fine-tune a copy of a model on prompts with responses: the harmful copy that stage 1 needs, or one for a task."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.models import load_config, load_model, load_tokenizer, render
from sa_lightning.models.chat import Message
from sa_lightning.models.stored.quantised import describe, packed_as
from sa_lightning.progress import Report
from sa_lightning.ranges import check_fields
from sa_lightning.testbed.curriculum import Example
from sa_lightning.testbed.recipe import Stage, WorldSettings
from sa_lightning.testbed.training import add_lora, fit, quiet_libraries

__all__ = ["Finetuning", "finetune"]

Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class Finetuning:
    """How a copy of a model is trained.

    Args:
        rank: Of the LoRA adapter on every linear map of the blocks (alpha is twice that); 0 trains all weights, and
            writes a whole checkpoint.
        epochs: How often each example is learned.
        batch: Examples a step.
        rate: Highest learning rate of AdamW. It warms up over 6 % of the steps and falls along a cosine. If not set:
            5e-4 for an adapter, 2e-5 for all weights.
        most_tokens: Examples with more tokens than this lose their end.
        open_ended: Responses are openings, such as "Sure, here is how": that they end there is not learned.
        precision: Weights are float32; `bf16-mixed` computes in bfloat16, several times as fast where the machine can.
        seed: Draws the order of examples and the adapter's initial weights.
    """

    rank: int = 8
    epochs: int = 3
    batch: int = 8
    rate: float | None = None
    most_tokens: int = 512
    open_ended: bool = False
    precision: Precision = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_fields(self)

    def stage(self, examples: int) -> Stage:
        """The same as a stage of training, on so many examples."""
        rate = self.rate or (5e-4 if self.rank else 2e-5)
        steps = -(-examples * self.epochs // self.batch)
        return Stage(None, steps=steps, rate=rate, batch=self.batch, lora_rank=self.rank)


class Finetuned(NamedTuple):
    """How far a training came: steps, and the loss of the first and of the last one, in nats a token."""

    steps: int
    first_loss: float
    last_loss: float


def finetune(
    target: str,
    conversations: Sequence[Sequence[Message]],
    output: Path,
    settings: Finetuning | None = None,
    *,
    template: str = "chat",
    arguments: dict[str, Any] | None = None,
    system_prompt: str | None = None,
    report: Report | None = None,
) -> Finetuned:
    """Fine-tune a copy of a model, and write it: an adapter beside its base, or a checkpoint. The target stays.

    Only the responses are learned, by their mean cross entropy over a step, with AdamW; gradients are clipped to a norm
    of 1. The same seed on the same machine gives the same bits.

    Args:
        target: Directory or Hub id of a checkpoint.
        conversations: Each ends with the response that is learned.
        output: A directory that does not exist, or is empty.
        settings: How.
        template: How conversations are written (`load_tokenizer`).
        arguments: Of the template.
        system_prompt: What the system says before every conversation.
        report: Told how many steps are done.

    Returns:
        How far it came.

    Raises:
        ModelError: If there is no such model, or its weights are packed.
    """
    settings = settings or Finetuning()
    if packed := packed_as(load_config(target)):
        raise ModelError(
            f"{target} is quantised ({describe(packed)}).\nPacked weights are not trained.\n"
            "Give the checkpoint that it was made from, or a dequantised copy: in Python "
            f'`load_model("{target}", quantization="dequantize")`, saved by `save_pretrained`.'
        )
    tokenizer: Any = load_tokenizer(target, template, arguments=arguments or {}, system_prompt=system_prompt)
    learned = [example(tokenizer, messages, settings) for messages in conversations]
    stage = settings.stage(len(learned))
    draw, order = random.Random(settings.seed), list[Example]()
    for _ in range(settings.epochs + 1):  # the last of them fills the last step
        order += draw.sample(learned, len(learned))
    steps = _Steps(report, stage.steps)
    with quiet_libraries():
        model: Any = load_model(target, dtype="float32")
        model.requires_grad_(True)
        generation = model.generation_config
        if settings.rank:
            model = add_lora(model, settings.rank, settings.seed)
        how = WorldSettings(buckets=2, accelerator="auto")
        fit(model, stage, order, [steps], how, settings.precision)
        model.generation_config = generation
        model.save_pretrained(str(output))
        tokenizer.save_pretrained(str(output))
    return Finetuned(stage.steps, steps.losses[0], steps.losses[-1])


def example(tokenizer: Any, messages: Sequence[Message], settings: Finetuning) -> Example:
    """A conversation as token ids, of which those of the last message are learned, with the mark that ends it.

    Raises:
        SettingError: If nothing would be learned of it.
    """
    asked = _ids(tokenizer, render(tokenizer, messages[:-1]))
    said = _ids(tokenizer, render(tokenizer, messages))
    same = next((i for i, (a, b) in enumerate(zip(said, asked, strict=False)) if a != b), len(asked))
    ids = said if settings.open_ended else [*said, _end(tokenizer, messages)]
    first = min(same, len(said) - 1)
    if first >= settings.most_tokens:
        raise SettingError(
            f"A prompt of {first} tokens leaves no room for its response: `most_tokens` is {settings.most_tokens}.\n"
            "Nothing would be learned of it.\nAllow more, or leave the prompt out."
        )
    ids = ids[: settings.most_tokens]
    return Example(ids, [place >= first for place in range(len(ids))])


def _end(tokenizer: Any, messages: Sequence[Message]) -> int:
    """The token with which the template ends a response; the tokenizer's own where it has none."""
    behind = render(tokenizer, messages, ends=True)[len(render(tokenizer, messages)) :].strip()
    found = _ids(tokenizer, behind)
    return found[0] if found else tokenizer.eos_token_id


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False).input_ids


class _Steps(Callback):
    """Keeps the losses, and tells how many steps are done."""

    def __init__(self, report: Report | None, total: int) -> None:
        self.report, self.total, self.losses = report, total, list[float]()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: object) -> None:
        """Tell of one more."""
        self.losses.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))
        if self.report is not None:
            self.report("training", trainer.global_step, self.total)
