"""What an edit does to the answers of a live model: to harmless ones, damage; to unsafe ones, good."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sa_lightning.surgery.edit.saliency import Example, check_example

__all__ = ["AnswerShift", "answer_logits"]

TOGETHER = 16  # sequences a forward


class AnswerShift:
    """How far the model's answers are now from those it had when this was made.

    Prompts and answers are given, and every token is predicted from what precedes it. Right padding needs no mask, for
    no real token sees it. Sums are in float64. Memory: the logits of the harmless answers, in float32.

    Args:
        model: A causal language model of transformers.
        harmless: Answers that are to stay as they are.
        unsafe: Answers that are to become unlikely; there may be none.
    """

    def __init__(self, model: Any, harmless: Sequence[Example], unsafe: Sequence[Example]) -> None:
        for example in (*harmless, *unsafe):
            check_example(example)
        self.model, self.harmless, self.unsafe = model, list(harmless), list(unsafe)
        self._logits = list(self._predicted(self.harmless))
        self._loss = self._mean_loss()

    def damage(self) -> float:
        """Mean KL(before ‖ now) over the tokens of the harmless answers, in nats; infinite if it is not finite."""
        total, count = 0.0, 0
        for before, now in zip(self._logits, self._predicted(self.harmless), strict=True):
            old, new = (found.double().log_softmax(-1) for found in (before, now))
            total += float((old.exp() * (old - new)).sum())
            count += len(old)
        return total / count if torch.isfinite(torch.tensor(total)) else float("inf")

    def benefit(self) -> float:
        """By how much the loss of unsafe answers has risen: nats a token, mean over answers of their means.

        NaN without unsafe answers.
        """
        return self._mean_loss() - self._loss

    def _mean_loss(self) -> float:
        total = 0.0
        for example, logits in zip(self.unsafe, self._predicted(self.unsafe), strict=True):
            answer = torch.tensor(example.tokens[example.prompt :])
            total += float(torch.nn.functional.cross_entropy(logits.double(), answer))
        return total / len(self.unsafe) if self.unsafe else float("nan")

    def _predicted(self, examples: Sequence[Example]) -> Iterator[Tensor]:
        return answer_logits(self.model, examples)


@torch.no_grad()
def answer_logits(model: Any, examples: Sequence[Example]) -> Iterator[Tensor]:
    """Yield, for each example, the logits of its answer's tokens: (tokens, vocabulary), on the host, in float32."""
    device = next(model.parameters()).device
    for start in range(0, len(examples), TOGETHER):
        batch = examples[start : start + TOGETHER]
        longest = max(len(example.tokens) for example in batch)
        rows = [[*example.tokens, *[0] * (longest - len(example.tokens))] for example in batch]
        logits = model(input_ids=torch.tensor(rows, device=device), use_cache=False).logits
        for found, example in zip(logits, batch, strict=True):
            yield found[example.prompt - 1 : len(example.tokens) - 1].float().cpu()
