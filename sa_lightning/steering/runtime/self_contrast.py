"""Self-CD: the next token from a prompt without and with an instruction, which runs on a KV cache of its own."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.steering.runtime.conditional import is_gated
from sa_lightning.steering.runtime.prompt_cache import Cache, Forward, cache_of

__all__ = ["SelfContrast"]


class SelfContrast:
    """A logits processor that moves along, or away from, what an instruction changes in the next token's logits.

    `generate` runs the plain prompts; this runs the second ones, which have the instruction, and gives both the tokens
    that were chosen. With y_with and y_without, the logits of the two, and the ratio r, tokens are chosen from

        y_with − r · (y_with − y_without).

    So r = 0 decodes with the instruction alone, r = 1 without it, both exactly, and r > 1 extrapolates away from it:
    an instruction that stresses safety shows what makes a model overcautious. A token that is ruled out for the plain
    prompt (−∞) stays so.

    Self-CD (Shi et al., ACL 2024, arXiv 2401.17633; r = 2.5 in the authors' code, decoding greedily). That code runs
    both texts from their beginning for every token; here both have a KV cache, which gives the same logits at the
    cost of one token step more for each token, and of a second cache.

    One processor is for one call of `generate`, with one reply a prompt: it goes on from call to call.

    Example:
        >>> contrast = SelfContrast(model, second["input_ids"], second["attention_mask"], ratio=2.5)  # doctest: +SKIP
        >>> model.generate(**plain, logits_processor=[contrast], do_sample=False)  # doctest: +SKIP

    Args:
        model: The causal language model that generates.
        tokens: Token ids of the second prompts, padded on the left; row for row those of `generate`.
        mask: 1 where they are no padding.
        ratio: r, any finite number.

    Raises:
        SettingError: If the ratio is no finite number, or prompts are padded on the right.
        ModelError: In `generate`, if the model returns no KV cache, or rows or tokens do not follow each other.
    """

    def __init__(
        self, model: nn.Module, tokens: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"], ratio: float
    ) -> None:
        if not math.isfinite(ratio):
            raise SettingError(
                f"The ratio of a self-contrast is {ratio}.\nLogits are multiplied by it.\n"
                "Give a finite number: 2.5 in the authors' code, 1 for the prompts without the instruction."
            )
        if not bool(mask[:, -1].all()):
            raise SettingError(
                f"{int((mask[:, -1] == 0).sum())} of {len(mask)} second prompts end in padding.\n"
                "The next token follows on the last.\nPad them on the left."
            )
        self.model, self.ratio = model, ratio
        self._tokens, self._mask = tokens, mask
        self._cache: Cache | None = None
        self._width: int | None = None  # tokens of the plain rows so far
        self._forward = Forward(model)

    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """Return the contrasted logits of the next token; `input_ids` has the plain prompts and what followed."""
        if self._width is None and is_gated(self.model):
            raise ModelError(
                "Gates steer the model that contrasts itself.\n"
                "They decide once for each prompt, and a second prompt would undo what was decided on the first.\n"
                "Leave out one of the two, or use an artifact without a gate."
            )
        rows, width = input_ids.shape
        if rows != len(self._mask) or (self._width is not None and width != self._width + 1):
            raise ModelError(
                f"{len(self._mask)} second prompts go on after {self._width or 'no'} tokens, but {rows} rows of "
                f"{width} came.\nBoth prompts of a row get the same tokens, one by one.\n"
                "Make a new SelfContrast for each `generate`, without beams and with one reply a prompt."
            )
        if self._width is None:
            self._tokens, self._mask = self._tokens.to(input_ids.device), self._mask.to(input_ids.device)
        else:
            self._tokens = input_ids[:, -1:]
            self._mask = torch.cat([self._mask, self._mask.new_ones(rows, 1)], 1)
        self._width = width
        instructed = self._next().to(scores)
        # lerp is exact at both ends. What is ruled out would become NaN.
        return torch.where(scores.isinf(), scores, torch.lerp(instructed, scores, self.ratio))

    def _next(self) -> Float[Tensor, "rows vocab"]:
        """Run what is new of the second rows, and return the logits of what follows."""
        more: dict[str, Any] = {}
        if "position_ids" in self._forward.takes:
            places = (self._mask.long().cumsum(-1) - 1).clamp(min=0)
            more["position_ids"] = places[:, -self._tokens.shape[1] :]
        if "logits_to_keep" in self._forward.takes:
            more["logits_to_keep"] = 1
        if self._cache is not None:
            more[self._forward.cache] = self._cache
        with torch.no_grad():
            output: Any = self.model(input_ids=self._tokens, attention_mask=self._mask, use_cache=True, **more)
        self._cache = cache_of(output)
        if self._cache is None:
            raise ModelError(
                f"{type(self.model).__name__} returns no KV cache.\n"
                "A self-contrast goes on from the cache of its second prompt.\nUse a transformer that has one."
            )
        return output.logits[:, -1].float()
