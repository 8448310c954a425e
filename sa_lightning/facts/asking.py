"""How a model is asked for a fact: its prompts as tokens, its replies, how likely it finds an answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sa_lightning.errors import DataError
from sa_lightning.models import render

__all__ = ["Asked", "Asking", "Form"]

Form = Literal["auto", "chat", "plain"]


class Asked(NamedTuple):
    """A prompt and the beginning of its reply, as tokens.

    Attributes:
        tokens: Of both.
        reply: Where the reply begins; at the end where there is none.
        places: Where the fact is read: at the last token of the subject, in the prompt and wherever the reply repeats
            it; or at the token behind which the answer differs from the old one.
    """

    tokens: list[int]
    reply: int
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class Asking:
    """A model that is asked.

    Attributes:
        model: A causal language model.
        tokenizer: From `load_tokenizer`.
        chat: Whether prompts are asked through the chat template; otherwise they are text that the model completes.
    """

    model: Any
    tokenizer: Any
    chat: bool = True

    def text(self, prompt: str, reply: str = "") -> str:
        """The text that goes into the model."""
        if not self.chat:
            return f"{prompt} {reply.lstrip()}" if reply else prompt
        turn = [{"role": "user", "content": prompt}]
        return render(self.tokenizer, [*turn, {"role": "assistant", "content": reply}] if reply else turn)

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text; of plain text with the special tokens that the tokenizer adds."""
        return list(self.tokenizer(text, add_special_tokens=not self.chat, verbose=False).input_ids)

    def asked(self, prompt: str, reply: str = "") -> Asked:
        """A prompt and the beginning of a reply as tokens.

        Raises:
            DataError: If the reply has no token of its own.
        """
        whole = self.tokens(self.text(prompt, reply))
        start = _common(whole, self.tokens(self.text(prompt))) if reply else len(whole)
        if reply and start >= len(whole):
            raise DataError(
                f"The reply {reply!r} has no token of its own behind {prompt[:80]!r}.\nGive another target."
            )
        return Asked(whole, start)

    def at_subject(self, prompt: str, reply: str, subject: str) -> Asked:
        """A prompt and the beginning of a reply, with the places of the subject.

        Raises:
            DataError: If the rendered prompt does not hold the subject.
        """
        asked, text = self.asked(prompt, reply), self.text(prompt, reply)
        # A template may have the words of the subject, too (a system prompt): those of prompt and reply count.
        begin = max(0, text.rfind(prompt))
        places = []
        for found in re.finditer(re.escape(subject), text[begin:]):
            before = self.tokens(text[: begin + found.end()])
            same = _common(asked.tokens, before)
            places.append(min(same - 1 if same == len(before) else same, len(asked.tokens) - 1))
        if not places:
            raise DataError(
                f"The prompt as the model reads it does not hold the subject {subject!r}.\n"
                "A fact is written at the last token of its subject.\nWrite it as the prompt has it."
            )
        return asked._replace(places=tuple(dict.fromkeys(places)))

    def at_answer(self, prompt: str, reply: str, old: str | None) -> Asked:
        """A prompt and the beginning of a reply, with the place behind which it differs from an old reply."""
        asked = self.asked(prompt, reply)
        parts = asked.reply if old is None else _common(asked.tokens, self.asked(prompt, old).tokens)
        return asked._replace(places=(min(max(parts, asked.reply), len(asked.tokens) - 1) - 1,))

    def rows(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids of several texts as one tensor, and their mask, padded on the right."""
        device = next(self.model.parameters()).device
        width = max(map(len, texts))
        ids = torch.tensor([[*one, *[0] * (width - len(one))] for one in texts], device=device)
        mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in texts], device=device)
        return ids, mask

    @torch.no_grad()
    def replies(self, prompts: Sequence[str], length: int = 16, batch: int = 32) -> list[str]:
        """Greedy replies of at most so many tokens, in the order of the prompts."""
        ends = self.tokenizer.eos_token_id
        found: dict[int, str] = {}
        tokens = [self.asked(prompt).tokens for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(tokens[i]))
        device = next(self.model.parameters()).device
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            width = max(len(tokens[i]) for i in chosen)
            ids = torch.tensor([[*[0] * (width - len(tokens[i])), *tokens[i]] for i in chosen], device=device)
            mask = torch.tensor([[0] * (width - len(tokens[i])) + [1] * len(tokens[i]) for i in chosen], device=device)
            written = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                num_beams=1,
                max_new_tokens=length,
                pad_token_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else ends,
            )
            for i, row in zip(chosen, written, strict=True):
                found[i] = self.tokenizer.decode(row[width:], skip_special_tokens=True).strip()
        return [found[i] for i in range(len(prompts))]

    @torch.no_grad()
    def log_probabilities(self, pairs: Sequence[tuple[str, str]], batch: int = 32) -> list[float]:
        """How likely each (prompt, answer) is: the sum over the answer's tokens, in nats."""
        found: list[float] = []
        for first in range(0, len(pairs), batch):
            asked = [self.asked(prompt, answer) for prompt, answer in pairs[first : first + batch]]
            ids, mask = self.rows([one.tokens for one in asked])
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            found += [float(reply_log_probability(row, one)) for row, one in zip(logits, asked, strict=True)]
        return found


def reply_log_probability(logits: Tensor, asked: Asked) -> Tensor:
    """Log p of the reply's tokens, summed, from the logits of one row (padded on the right), in float32."""
    wanted = torch.tensor(asked.tokens[asked.reply :], device=logits.device)
    rows = logits[asked.reply - 1 : len(asked.tokens) - 1].float().log_softmax(-1)
    return rows.gather(1, wanted[:, None]).sum()


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
