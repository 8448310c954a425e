"""Training a stage with Lightning: tensors prepared beforehand, one fit, the same bits every time.

In float32, on the CPU unless the recipe says otherwise, with its thread count: on one machine, the weights are then a
function of seed and recipe alone.
"""

import itertools
import logging
import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from peft import LoraConfig, PeftModel, get_peft_model
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from sa_lightning.progress import say
from sa_lightning.testbed.curriculum import Example
from sa_lightning.testbed.language.lexicon import BOS, EOS, PAD
from sa_lightning.testbed.recipe import Stage, WorldSettings

EVERY = 8.0  # seconds between two lines, where there is no terminal

#: Buckets of one step's batch: token ids and labels (-100: not learned), int64 `batch pos`.
Batch = list[tuple[Tensor, Tensor]]


class LanguageModelling(LightningModule):
    """Next-token training of a causal LM.

    Args:
        model: A transformers or PEFT causal LM; its trainable parameters are optimised.
        stage: Steps, rate and weight decay.
    """

    def __init__(self, model: torch.nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model, self.stage = model, stage

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean cross entropy over all learned tokens of the step, in nats."""
        total, learned = torch.zeros((), device=self.device), 0
        for ids, labels in batch:
            # Padding is on the right here, so causal attention keeps it out without a mask.
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
            target = labels[:, 1:]
            total = total + cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="sum")
            learned += int((target != -100).sum())
        return total / learned

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW; the rate warms up over 6 % of the steps and falls along a cosine to 3 %."""
        stage, warm_up = self.stage, max(1, round(0.06 * self.stage.steps))

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            done = (step - warm_up) / max(1, stage.steps - warm_up)
            return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=stage.rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class StageProgress(Callback):
    """One line of a shared rich display: the stage and its steps; where that is no terminal, lines now and then."""

    def __init__(self, progress: Progress, name: str, steps: int) -> None:
        self.progress, self.name, self.steps = progress, name, steps
        self.said = time.monotonic()
        self.task = progress.add_task(name, total=steps)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: object, *_: object) -> None:
        """Advance by one optimizer step."""
        self.progress.update(self.task, completed=trainer.global_step)
        plain = not self.progress.console.is_terminal and not self.progress.disable
        if plain and time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            say(f"  {self.name}: step {trainer.global_step} of {self.steps}")


def new_model(settings: WorldSettings, vocabulary: Mapping[str, int], seed: int) -> PreTrainedModel:
    """A Llama with random weights in the sizes of the recipe, embeddings untied."""
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=settings.d_model,
        intermediate_size=settings.d_ff,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=512,
        initializer_range=settings.init_std,
        tie_word_embeddings=False,
        pad_token_id=vocabulary[PAD],
        bos_token_id=vocabulary[BOS],
        eos_token_id=vocabulary[EOS],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def load(path: str) -> PreTrainedModel:
    """A checkpoint of the world in float32 on the CPU."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)


def add_lora(model: PreTrainedModel, rank: int, seed: int) -> PeftModel:
    """The model with an untrained adapter on every linear map of its blocks."""
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def fit(
    model: torch.nn.Module,
    stage: Stage,
    examples: list[Example],
    callbacks: list[Callback],
    settings: WorldSettings,
    precision: Any = "32-true",
) -> None:
    """Train in place with `Trainer.fit`, one step for each `stage.batch` examples, in buckets of like length.

    `precision` is the `Trainer`'s; the loss is float32 in any.
    """
    if stage.trains:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(bool(re.search(stage.trains, name)))
    batches = [_batch(examples[i * stage.batch : (i + 1) * stage.batch], settings.buckets) for i in range(stage.steps)]
    model.train()
    trainer = Trainer(
        max_steps=stage.steps,
        max_epochs=1,
        accelerator=settings.accelerator,
        precision=precision,
        devices=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=callbacks,
    )
    loader: DataLoader[Batch] = DataLoader(batches, batch_size=None, num_workers=0)  # type: ignore[arg-type]  # a list
    trainer.fit(LanguageModelling(model, stage), loader)
    model.eval()  # and on the CPU again
    if stage.trains:
        model.requires_grad_(True)


def _batch(examples: list[Example], buckets: int) -> Batch:
    """From shorter to longer dialogues: less padding, while every step still sees all kinds."""
    ordered = sorted(examples, key=lambda example: len(example.ids))
    cuts = [len(ordered) * i // buckets for i in range(buckets + 1)]
    batch = []
    for start, end in itertools.pairwise(cuts):
        alike = ordered[start:end]
        if not alike:
            continue
        ids = torch.zeros(len(alike), len(alike[-1].ids), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, example in enumerate(alike):
            tokens = torch.tensor(example.ids)
            ids[row, : len(tokens)] = tokens
            labels[row, : len(tokens)] = tokens.where(torch.tensor(example.learned), -100)
        batch.append((ids, labels))
    return batch


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Mute notices and bars of Lightning and transformers: the build shows its own progress."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    had_bars = transformers_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def repeatable(threads: int) -> Iterator[None]:
    """Use exactly this many threads inside; give the caller's number and random state back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(before)
