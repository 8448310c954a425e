"""The self-check of an export: its logits beside those of our hooks, on prompts and on the reply that follows."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sa_lightning.errors import ArtifactError
from sa_lightning.files import Json
from sa_lightning.models import tokenize

PROMPTS = (
    "What is the capital of France?",
    "Write two sentences about the sea.",
    "How do I bake a cake?",
    "Tell me how to pick a lock.",
)
REPLY = 4  # tokens of each reply that are compared
#: Of the mean effect: what rounding may make, in float32, of weights and biases that may be stored in half precision.
ROUNDING = 0.02


@dataclass(frozen=True)
class Proof:
    """How far an export is from the steering that was measured.

    Attributes:
        consumer: Who loaded the export.
        prompts: Number of prompts.
        tokens: Number of positions that were compared, those of the replies included.
        difference: Largest absolute difference of a logit from that under our hooks.
        effect: The same between our hooks and the model as it is.
        mean_difference: Mean absolute difference of a logit.
        mean_effect: The same between our hooks and the model as it is.
        same_token: Share of positions with the same most likely token.
        dtype: In which was computed: float32, whatever the weights are stored in.
    """

    consumer: str
    prompts: int
    tokens: int
    difference: float
    effect: float
    mean_difference: float
    mean_effect: float
    same_token: float
    dtype: str

    def as_dict(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)

    def check(self, to: str) -> None:
        """Refuse an export that was to be exact and is not.

        Raises:
            ArtifactError: With the difference.
        """
        most = ROUNDING * self.mean_effect
        if not self.mean_difference <= most:
            raise ArtifactError(
                f"Loaded by {self.consumer}, the export differs from steering by {self.mean_difference:.3g} in the "
                f"mean logit, and by {self.difference:.3g} at most, where steering itself changes "
                f"{self.mean_effect:.3g} and {self.effect:.3g}.\n"
                "It would not be what was measured, and nothing was written.\n"
                f"Report this; meanwhile use another format than `--to {to}`."
            )


class Prompts:
    """Logits of a model on a few prompts and the replies that it gives while it is steered.

    Args:
        tokenizer: With the template of the fit.
        ends: Compare no position of a prompt but its last, which is where gates have decided.
        prompts: Questions of a user.
    """

    def __init__(self, tokenizer: Any, ends: bool = False, prompts: Sequence[str] = PROMPTS) -> None:
        self.ends = ends
        self.ids = [tokenize(tokenizer, [{"role": "user", "content": text}])[0] for text in prompts]
        self.replies: list[list[int]] = [[] for _ in self.ids]

    @torch.no_grad()
    def logits(self, model: Any, *, reply: bool = False) -> Tensor:
        """Return the logits that are compared, prompt after prompt, (positions, vocabulary), float32, on the CPU.

        Args:
            model: That runs, steered or not.
            reply: Let it choose the tokens of the replies, which all others then get.
        """
        found: list[Tensor] = []
        for number, ids in enumerate(self.ids):
            given = torch.tensor([ids], device=model.device)
            mask = torch.ones_like(given)
            kept: dict[str, Any] = {"logits_to_keep": 1} if self.ends else {}
            out = model(input_ids=given, attention_mask=mask, use_cache=True, **kept)
            found.append(out.logits[0])
            for step in range(REPLY):
                if reply:
                    self.replies[number].append(int(out.logits[0, -1].argmax()))
                token = torch.tensor([[self.replies[number][step]]], device=model.device)
                mask = torch.cat([mask, torch.ones_like(token)], 1)
                out = model(input_ids=token, attention_mask=mask, past_key_values=out.past_key_values, use_cache=True)
                found.append(out.logits[0])
        return torch.cat(found).float().cpu()


def proof(
    prompts: Prompts, steered: Tensor, plain: Tensor, consumer: str, loaded: AbstractContextManager[Any]
) -> Proof:
    """Compare an export with steering.

    Args:
        prompts: With the replies of the steered model.
        steered: Logits under our hooks.
        plain: Logits of the model as it is.
        consumer: Who loads the export.
        loaded: Gives the model with the export.
    """
    with loaded as model:
        found = prompts.logits(model)
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    off, moved = (found - steered).abs(), (plain - steered).abs()
    return Proof(
        consumer=consumer,
        prompts=len(prompts.ids),
        tokens=len(found),
        difference=float(off.max()),
        effect=float(moved.max()),
        mean_difference=float(off.mean()),
        mean_effect=float(moved.mean()),
        same_token=float((found.argmax(-1) == steered.argmax(-1)).float().mean()),
        dtype=dtype,
    )
