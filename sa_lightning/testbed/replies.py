"""What a model of a world says and holds: greedy replies, states, and what random directions do to both."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sa_lightning.models import locate_blocks
from sa_lightning.steering import Step, capture, random_directions, steering
from sa_lightning.testbed.prompts import Row


def reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    batch: int = 256,
    turns: Sequence[tuple[str, str]] | None = None,
) -> list[str]:
    """Greedy replies of at most 40 tokens, special tokens removed.

    Where a row has a `prefix`, the reply goes on from there, and what was given is not part of it. `turns` has a
    question and its answer for each row, which come before it.
    """
    replies: list[str] = [""] * len(rows)
    network: Any = model
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["prompt"]))
    for start in range(0, len(rows), batch):
        chosen = order[start : start + batch]
        before = [turns[i] for i in chosen] if turns else None
        inputs = _inputs(tokenizer, [rows[i] for i in chosen], model.device, before)
        with torch.inference_mode():
            output = network.generate(**inputs, max_new_tokens=40, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        for i, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            replies[i] = text
    return replies


def moved_by_random_directions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    attacks: Callable[[list[str]], int],
    strength: float,
    draws: int,
) -> list[int]:
    """Count attacks that succeed under each of several random directions, one per layer, added with the norm kept."""
    blocks = locate_blocks(model)
    found = []
    for draw in range(draws):
        directions = random_directions((len(blocks.layers), model.config.hidden_size), draw)
        steps = [Step("add_keep_norm", direction, strength, model.device) for direction in directions]
        changes = list(zip(blocks.at("residual"), steps, strict=True))
        with steering(blocks.decoder, changes, blocks.callers):
            found.append(attacks(reply(model, tokenizer, rows)))
    return found


def ordered_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[Row],
    rows: Sequence[Row],
    other: str,
    ridge: float = 1e-2,
) -> tuple[int, int]:
    """AUROC as a fraction: pairs of a harmful and another prompt that a probe puts in their order, and all pairs.

    The probe is a ridge regression on the states at the last token of the prompt behind the middle block, in float64,
    fitted on prompts of training words. A tie counts as half a pair; an odd number of them is rounded down.
    """
    (x, y), (seen, harmful) = (_states(model, tokenizer, part, other) for part in (train, rows))
    mean, spread = x.mean(0), x.std(0) + 1e-9
    x, seen = (x - mean) / spread, (seen - mean) / spread
    penalty = ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ (y - y.mean()))
    scores = seen @ weights
    above = scores[harmful.bool(), None] - scores[None, ~harmful.bool()]
    return int((above > 0).sum() + (above == 0).sum() // 2), above.numel()


def _states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], other: str
) -> tuple[Tensor, Tensor]:
    """States of shape (rows, d_model) in float64, and 1.0 where the row is harmful."""
    chosen = [row for row in rows if row["kind"] in ("harmful", other)]
    blocks = locate_blocks(model)
    middle = [blocks.layers[len(blocks.layers) // 2]]
    with torch.inference_mode(), capture(middle, lambda hidden: hidden[:, -1].cpu().double()) as captured:
        model(**_inputs(tokenizer, chosen, model.device))
        states = captured.stacked()[:, 0].clone()
    return states, torch.tensor([float(row["kind"] == "harmful") for row in chosen], dtype=torch.float64)


def _inputs(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    device: torch.device,
    turns: Sequence[tuple[str, str]] | None = None,
) -> Any:
    """A batch, padded on the left, up to where the reply begins."""
    chats = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    if turns:
        for chat, (question, answer) in zip(chats, turns, strict=True):
            chat[:0] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    given = [f"{text} {row.get('prefix', '')}".strip() for text, row in zip(texts, rows, strict=True)]
    inputs = tokenizer(given, add_special_tokens=False, padding=True, return_tensors="pt", return_token_type_ids=False)
    return inputs.to(device)
