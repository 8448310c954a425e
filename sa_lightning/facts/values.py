"""The value v*: what the down projection must write at the subject so that the model says the target."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from sa_lightning.facts.asking import Asked, Asking, reply_log_probability
from sa_lightning.facts.place import DownProjection
from sa_lightning.facts.record import Fact
from sa_lightning.models import position_ids

MOMENTUM = 0.7

__all__ = ["Descent", "Found", "find_step"]


@dataclass(frozen=True)
class Descent:
    """How v* is looked for.

    Attributes:
        steps: Most steps, down the gradient with momentum.
        rate: Length of the first ones, of that of W k; halved whenever the loss rises.
        essence: Weight of the KL divergence of what the model says of the subject alone.
        decay: Weight of ‖δ‖² / ‖W k‖².
        clamp: Largest ‖δ‖ / ‖W k‖.
        enough: −log p(target) at which to stop: a longer step would disturb more, and be said no more often.
    """

    steps: int = 25
    rate: float = 0.25
    essence: float = 0.0625
    decay: float = 0.2
    clamp: float = 4.0
    enough: float = 0.5


@dataclass(frozen=True)
class Found:
    """A step δ = v* − W k, float32, on the CPU, and how it came about.

    Attributes:
        step: δ, (d_model); zero where nothing there makes the target likelier.
        before, after: log p of the target, in the mean over the contexts.
        length: ‖δ‖ / ‖W k‖.
        steps: Of the descent.
    """

    step: Tensor
    before: float
    after: float
    length: float
    steps: int


def find_step(
    asking: Asking, place: DownProjection, asked: Sequence[Asked], fact: Fact, descent: Descent | None = None
) -> Found:
    """Find δ by gradient descent on −log p(target) over contexts, with the model frozen.

    Beside it the KL divergence of the model's next token behind the subject alone, and weight decay: ROME, Eq. 4.

    Args:
        asking: The model.
        place: Where δ is added.
        asked: The fact's prompt with its target, behind several contexts, with the tokens at which δ is added.
        fact: The fact.
        descent: How.
    """
    descent = descent or Descent()
    # Behind the subject, where nothing else is asked: a chat template asks for a reply there.
    essence = asking.at_subject(fact.subject, "", fact.subject)
    training = asking.model.training
    asking.model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            rows = _Rows(asking, place, [*asked, essence])
            with torch.no_grad():
                usual = rows.last().log_softmax(-1)
                before = rows.said().mean()
            length = rows.length
            delta = torch.zeros(rows.width, device=rows.device, requires_grad=True)
            pace, rate, last = torch.zeros(rows.width, device=rows.device), descent.rate, float("inf")
            best, least, after, steps = delta.detach().clone(), float("inf"), before, 0
            for step in range(descent.steps + 1):
                rows.run(delta)
                said = rows.said().mean()
                drift = functional.kl_div(rows.last().log_softmax(-1), usual, log_target=True, reduction="sum")
                loss = -said + descent.essence * drift + descent.decay * delta.square().sum() / length**2
                if loss.item() < least:
                    best, least, after, steps = delta.detach().clone(), loss.item(), said.detach(), step
                if step == descent.steps or -said.item() < descent.enough:
                    break
                (gradient,) = torch.autograd.grad(loss, [delta])
                pace, rate, last = MOMENTUM * pace + gradient, rate / 2 if loss.item() > last else rate, loss.item()
                with torch.no_grad():
                    delta.sub_(pace, alpha=rate * length / max(float(pace.norm()), 1e-12))
                    delta.mul_((descent.clamp * length / delta.norm().clamp(min=1e-12)).clamp(max=1))
    finally:
        asking.model.train(training)
    return Found(best.cpu(), before.item(), after.item(), float(best.norm()) / length, steps)


class _Rows:
    """Prompts with replies, run again and again with δ at one place in each.

    What stands before that place does not depend on δ: it runs once, if the model goes on from its keys and values
    as it reads the whole (recurrent ones do not), which is tried out.
    """

    def __init__(self, asking: Asking, place: DownProjection, asked: Sequence[Asked]) -> None:
        self.model, self.place, self.asked = asking.model, place, asked
        self.device = next(asking.model.parameters()).device
        self._cache: Any = None
        self._parameters = signature(self.model.forward).parameters
        self._named = "cache" if "cache" in self._parameters else "past_key_values"  # transformers renamed it in 5.2x
        self._ids, self._mask = asking.rows([one.tokens for one in asked])
        self._starts = [0] * len(asked)
        self._logits = torch.empty(0)
        with torch.no_grad():
            seen = self.run(None)
            self.width, self.length = seen.shape[-1], float(seen.norm(dim=-1).mean())
            whole = self.said()
            if min(one.places[0] for one in asked) > 0 and not getattr(self.model, "_is_stateful", False):
                self._share()
                self.run(None)
                if not torch.allclose(self.said(), whole, atol=0.05, rtol=0.02):
                    self._cache, self._starts = None, [0] * len(asked)
                    self._ids, self._mask = asking.rows([one.tokens for one in asked])
                    self.run(None)

    def _share(self) -> None:
        starts = [min(one.places[0], one.reply - 1) for one in self.asked]
        width = max(starts)
        head = [[0] * (width - start) + one.tokens[:start] for one, start in zip(self.asked, starts, strict=True)]
        mask = [[0] * (width - start) + [1] * start for start in starts]
        self._before = torch.tensor(mask, device=self.device)
        cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        self.model(
            input_ids=torch.tensor(head, device=self.device),
            attention_mask=self._before,
            use_cache=True,
            **{self._named: cache},
            **self._positions(position_ids(self._before)),
        )
        tails = [one.tokens[start:] for one, start in zip(self.asked, starts, strict=True)]
        size = max(map(len, tails))
        self._ids = torch.tensor([[*tail, *[0] * (size - len(tail))] for tail in tails], device=self.device)
        self._mask = torch.tensor([[1] * len(tail) + [0] * (size - len(tail)) for tail in tails], device=self.device)
        self._cache, self._starts = cache, starts

    def _positions(self, positions: Tensor) -> dict[str, Tensor]:
        return {"position_ids": positions} if "position_ids" in self._parameters else {}

    def run(self, delta: Tensor | None) -> Tensor:
        """Run all with δ; returns what the down projection wrote there without it, float32."""
        given: dict[str, Any] = {"attention_mask": self._mask, "use_cache": False}
        if self._cache is not None:
            given["attention_mask"] = torch.cat([self._before, self._mask], -1)
            given |= self._positions(self._before.sum(-1)[:, None] + position_ids(self._mask))
            given |= {self._named: copy.deepcopy(self._cache), "use_cache": True}
        places = [
            (row, place - start)
            for row, (one, start) in enumerate(zip(self.asked, self._starts, strict=True))
            for place in one.places
        ]
        with _shifted(self.place, torch.tensor(places, device=self.device).T, delta) as seen:
            self._logits = self.model(input_ids=self._ids, **given).logits
        return seen[0]

    def said(self) -> Tensor:
        """Log p of the reply of each, of those that have one."""
        return torch.stack(
            [
                reply_log_probability(row, Asked(one.tokens[start:], one.reply - start))
                for row, one, start in zip(self._logits, self.asked, self._starts, strict=True)
                if one.reply < len(one.tokens)
            ]
        )

    def last(self) -> Tensor:
        """Logits behind the last token of the last."""
        return self._logits[-1, len(self.asked[-1].tokens) - self._starts[-1] - 1].float()


@contextmanager
def _shifted(place: DownProjection, places: Tensor, delta: Tensor | None) -> Iterator[list[Tensor]]:
    """Add δ to what a down projection writes at (row, token) places; yields what it wrote there without δ."""
    seen: list[Tensor] = []
    rows, tokens = places

    def hook(_module: Any, _inputs: Any, output: Tensor) -> Tensor | None:
        shaped = output.reshape(int(rows.max()) + 1, -1, output.shape[-1])
        seen.append(shaped[rows, tokens].detach().float())
        if delta is None:
            return None
        moved = torch.zeros_like(shaped).index_put((rows, tokens), delta.to(output.dtype).expand(len(rows), -1))
        return (shaped + moved).reshape(output.shape)

    handle = place.module.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()
