"""What a model of the `smol` world says and knows: greedy replies, likelihoods of choices and of running text."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from sa_lightning.testbed.smol.lessons import asking

Say = Callable[[str], None]
#: Seconds between two lines of progress.
EVERY = 5.0


class Teller:
    """Says how far something is, now and then.

    Args:
        say: Gets the lines.
        what: What is going on.
        total: How much of it there is.
    """

    def __init__(self, say: Say, what: str, total: int) -> None:
        self.say, self.what, self.total = say, what, total
        self.began = self.told = time.monotonic()

    def at(self, done: int, more: str = "") -> None:
        """Say it, unless it was said a moment ago."""
        now = time.monotonic()
        if now - self.told < EVERY and done < self.total:
            return
        self.told = now
        left = f", about {(now - self.began) / done * (self.total - done):.0f} s left" if done else ""
        self.say(f"  {self.what}: {done} of {self.total}{more}, {now - self.began:.0f} s{left}")


class _Watch(StoppingCriteria):
    """Stops nothing, and tells how far a generation is."""

    def __init__(self, teller: Teller, done: int) -> None:
        self.teller, self.done = teller, done

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:  # type: ignore[override]
        self.teller.at(self.done)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    tokens: int,
    batch: int,
    teller: Teller,
) -> list[tuple[str, bool]]:
    """Greedy replies, in the order of the prompts, which are asked by length.

    Args:
        model: In any dtype, on any device.
        tokenizer: The model's; it pads on the left here, whatever it does elsewhere.
        prompts: What is asked, without chat template.
        tokens: New tokens at most.
        batch: Prompts that are asked at once.
        teller: Told how many are done.

    Returns:
        The text without special tokens, and whether it was cut at the limit.
    """
    found: list[tuple[str, bool]] = [("", False)] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    network: Any = model
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        inputs = tokenizer(
            [asking(tokenizer, prompts[i]) for i in chosen], add_special_tokens=False, padding=True, return_tensors="pt"
        ).to(model.device)
        with torch.inference_mode():
            out = network.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                stopping_criteria=StoppingCriteriaList([_Watch(teller, start)]),
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        for i, ids in zip(chosen, new.tolist(), strict=True):
            ended = tokenizer.eos_token_id in ids
            text = str(tokenizer.decode(ids[: ids.index(tokenizer.eos_token_id)] if ended else ids))
            found[i] = (text.strip(), not ended)
        teller.at(start + len(chosen))
    tokenizer.padding_side = side
    return found


def chosen_endings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[tuple[str, Sequence[str]]],
    batch: int,
    teller: Teller,
) -> list[int]:
    """Which ending of each question has the largest sum of log-likelihoods, the first of equals; lm-eval's `acc`."""
    asked: list[tuple[int, list[int], int]] = []  # question, ids, where the ending begins
    for number, (question, endings) in enumerate(questions):
        start: Any = tokenizer(question, add_special_tokens=False)["input_ids"]
        for ending in endings:
            whole: Any = tokenizer(f"{question} {ending}", add_special_tokens=False)["input_ids"]
            asked.append((number, whole, min(len(start), len(whole) - 1)))
    scores: list[float] = [0.0] * len(asked)
    order = sorted(range(len(asked)), key=lambda i: len(asked[i][1]))
    for begin in range(0, len(order), batch):
        some = order[begin : begin + batch]
        longest = max(len(asked[i][1]) for i in some)
        ids = torch.zeros(len(some), longest, dtype=torch.long)
        learned = torch.zeros(len(some), longest, dtype=torch.bool)
        for row, i in enumerate(some):
            _, tokens, start = asked[i]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            learned[row, start : len(tokens)] = True
        for i, score in zip(some, (-_losses(model, ids) * learned[:, 1:]).sum(1).tolist(), strict=True):
            scores[i] = score
        teller.at(len(questions) * (begin + len(some)) // len(order))
    best: list[int] = []
    place = 0
    for _, endings in questions:
        own = scores[place : place + len(endings)]
        best.append(own.index(max(own)))
        place += len(endings)
    return best


def perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, tokens: int, window: int = 512
) -> float:
    """Exponential of the mean loss, in nats a token, over the first tokens of a text, in windows without overlap."""
    every: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    every = every[:tokens]
    window = min(window, len(every))
    ids = torch.tensor(every[: len(every) // window * window]).view(-1, window)
    total = sum(_losses(model, rows).sum().item() for rows in ids.split(4))
    return math.exp(total / (ids.shape[0] * (window - 1)))


def _losses(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Loss of each next token, float32 on the CPU, of shape (rows, tokens - 1); padding is on the right."""
    network: Any = model
    ids = ids.to(model.device)
    with torch.inference_mode():
        logits = network(input_ids=ids[:, :-1], use_cache=False).logits.float()
        return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1).cpu()
