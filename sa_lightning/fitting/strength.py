"""The strength of a step: the largest that harmless replies bear, found on the loaded model by bisection."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sa_lightning.errors import DataError, NothingToDoError
from sa_lightning.files import Json
from sa_lightning.models import Blocks
from sa_lightning.steered import acting, changes_of
from sa_lightning.steering import Rule, Step, prompt_lengths
from sa_lightning.surgery.edit.answer_shift import TOGETHER, answer_logits
from sa_lightning.surgery.edit.saliency import Example

IsLanguage = Callable[[str, str], bool]
Changes = Sequence[tuple[nn.Module, Step]]
PROMPTS, NEW_TOKENS = 24, 24
CLOSE = 1.05  # the search ends where the bounds are so close
LESS = 1.25  # by how much a step that leaves too little language is made smaller
SMALLEST = 1e-4  # of a unit: below it a step changes nothing that could be measured


@dataclass(frozen=True)
class Tried:
    """One strength that was looked at.

    Attributes:
        strength: In the unit of the intervention.
        kl: Mean KL(unsteered ‖ steered) over the tokens of harmless replies, in nats.
        degenerate: How many replies were no language, or None where none were written.
    """

    strength: float
    kl: float
    degenerate: int | None = None


@dataclass
class StrengthSearch:
    """What a search for a strength found.

    Attributes:
        strength: The one that is taken.
        budget: Most KL divergence, in nats a token.
        prompts: How many harmless prompts it was measured on.
        tried: Every strength that was looked at, in order.
    """

    strength: float
    budget: float
    prompts: int
    tried: list[Tried] = field(default_factory=list)

    def as_dict(self) -> Json:
        """What an artifact records."""
        tried = [[one.strength, one.kl, one.degenerate] for one in sorted(self.tried, key=lambda one: one.strength)]
        return {"strength": self.strength, "budget": self.budget, "prompts": self.prompts, "tried": tried}


class HarmlessReplies:
    """The model's own greedy replies to harmless prompts, and what it makes of them when it is steered.

    Args:
        model: A causal language model of transformers, unsteered.
        blocks: From `locate_blocks`.
        tokenizer: From `load_tokenizer`: pads on the left.
        prompts: Rendered, with the generation prompt behind.
        is_language: `(prompt, reply) -> bool`.

    Raises:
        DataError: If there are no prompts, or the tokenizer does not know their words.
    """

    def __init__(
        self,
        model: Any,
        blocks: Blocks,
        tokenizer: Any,
        prompts: Sequence[str],
        is_language: IsLanguage = lambda prompt, reply: bool(reply.strip()),
    ) -> None:
        self.model, self.blocks, self.tokenizer = model, blocks, tokenizer
        self.prompts, self.is_language = list(prompts[:PROMPTS]), is_language
        self._inputs = self._tokens()
        replies = self._generate()
        self.degenerate = self._degenerate(replies)
        ends = {i for i in _listed(model.generation_config.eos_token_id) if i is not None}
        examples = []
        for prompt, mask, reply in zip(self._inputs["input_ids"], self._inputs["attention_mask"], replies, strict=True):
            own, said = prompt[mask.bool()].tolist(), []
            for token in reply.tolist():
                said.append(token)
                if token in ends:
                    break
            examples.append(Example([*own, *said], len(own)))
        self._examples = examples
        self._before = [logits.log_softmax(-1) for logits in answer_logits(model, examples)]

    def kl(self, changes: Changes, only_prompt: bool = False) -> float:
        """Return the mean KL(unsteered ‖ steered) over all tokens of the replies, in nats; inf if it is not finite.

        Each token's is in float32, their sum in float64.

        Args:
            changes: Modules and what is done to their outputs.
            only_prompt: Whether they act on no token of the replies.
        """
        total, count = 0.0, 0
        with acting(self.model, self.blocks, changes, only_prompt):
            for old, logits in zip(self._before, self._logits(only_prompt), strict=True):
                total += float((old.exp() * (old - logits.log_softmax(-1))).sum(dtype=torch.float64))
                count += len(old)
        return total / count if math.isfinite(total) else math.inf

    def garbled(self, changes: Changes, only_prompt: bool = False) -> int:
        """Return how many steered replies are no language."""
        with acting(self.model, self.blocks, changes, only_prompt):
            return self._degenerate(self._generate())

    def _logits(self, only_prompt: bool) -> Iterator[Tensor]:
        """Those of the replies' tokens, as the model is now; where prompts alone are steered, it is said which."""
        if not only_prompt:
            yield from answer_logits(self.model, self._examples)
            return
        for start in range(0, len(self._examples), TOGETHER):
            examples = self._examples[start : start + TOGETHER]
            with prompt_lengths([example.prompt for example in examples]):
                yield from answer_logits(self.model, examples)

    def _tokens(self) -> dict[str, Tensor]:
        if not self.prompts:
            raise DataError(
                "There are no harmless prompts to find a strength on.\n"
                "`strength: auto` is the largest step that harmless replies bear.\n"
                'Give a file of lines {"prompt": …} as `--steering.ordinary`, or a number as `--steering.strength`.'
            )
        found = self.tokenizer(self.prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        unknown = self.tokenizer.unk_token_id
        known = found["attention_mask"].bool()
        if unknown is not None and float((found["input_ids"][known] == unknown).float().mean()) > 0.25:
            raise DataError(
                "The tokenizer does not know most words of the harmless prompts that `strength: auto` is found on.\n"
                "What the model makes of them says nothing about its own language.\n"
                'Give a file of lines {"prompt": …} as `--steering.ordinary`, or a number as `--steering.strength`.'
            )
        device = next(self.model.parameters()).device
        return {key: found[key].to(device) for key in ("input_ids", "attention_mask")}

    @torch.no_grad()
    def _generate(self) -> Tensor:
        """Greedy replies, token ids on the right of the prompts."""
        pad = self.tokenizer.pad_token_id
        out = self.model.generate(**self._inputs, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=pad)
        return out[:, self._inputs["input_ids"].shape[1] :].cpu()

    def _degenerate(self, replies: Tensor) -> int:
        texts = self.tokenizer.batch_decode(replies, skip_special_tokens=True)
        return sum(not self.is_language(prompt, text) for prompt, text in zip(self.prompts, texts, strict=True))


def largest_strength(
    model: nn.Module,
    blocks: Blocks,
    rule: Rule,
    name: str,
    replies: HarmlessReplies,
    budget: float,
    sign: float = 1.0,
) -> StrengthSearch:
    """Find the largest strength whose KL divergence on harmless replies is within a budget, and that leaves language.

    All prompts are steered, gate or none: what a gate lets through is to be borne, too. KL is taken to rise with the
    strength, and bisected on a logarithmic scale to 5 %; then replies are written, and while more of them are no
    language than unsteered ones, by more than the square root of their number, the strength is lowered by a fifth. No
    harmful prompt is needed.

    Args:
        model: Unsteered.
        blocks: From `locate_blocks`.
        rule: With directions, typical norms and an intervention whose strength 0 changes nothing.
        name: Of the set of directions that was fitted on these weights.
        replies: Of the model as it is now.
        budget: In nats a token.
        sign: -1 finds the largest step the other way.

    Raises:
        NothingToDoError: If not even the smallest step is borne.
    """
    chosen = rule.how
    most = min(chosen.high if sign > 0 else -chosen.low, 1e4) * (1.0 if chosen.closed else 0.999)
    search = StrengthSearch(0.0, budget, len(replies.prompts))

    def steps(strength: float) -> list[Any]:
        return changes_of(model, blocks, rule, name, sign * strength)

    def within(strength: float) -> bool:
        kl = replies.kl(steps(strength), rule.only_prompt)
        search.tried.append(Tried(sign * strength, kl))
        return kl <= budget

    low, high, at = 0.0, math.inf, min(most, 0.03)
    while not (low and high / low < CLOSE) and low < most and at >= SMALLEST:
        if within(at):
            low, at = at, min(most, 3 * at if math.isinf(high) else math.sqrt(at * high))
        else:
            high, at = at, at / 3 if not low else math.sqrt(low * at)
    while low >= SMALLEST:
        garbled = replies.garbled(steps(low), rule.only_prompt)
        kl = next((one.kl for one in search.tried if one.strength == sign * low), math.nan)
        kl = replies.kl(steps(low), rule.only_prompt) if math.isnan(kl) else kl
        search.tried = [one for one in search.tried if one.strength != sign * low]
        search.tried.append(Tried(sign * low, kl, garbled))
        if garbled <= replies.degenerate + round(math.sqrt(replies.degenerate)):
            search.strength = sign * low
            return search
        low /= LESS
    raise NothingToDoError(
        f"No step along these directions is borne: at {sign * search.tried[-1].strength:.2g} the KL divergence on "
        f"harmless replies is {search.tried[-1].kl:.2g} nats a token, and {budget:g} are allowed.\n"
        "A step that is smaller still would change nothing.\n"
        "Allow more with `--steering.kl_budget`, steer fewer `--steering.layers`, or give a number as "
        "`--steering.strength`."
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
