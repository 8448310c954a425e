"""Facts written into a model: keys, values and the closed form, as factors of a change of a few tensors."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sa_lightning.facts.asking import Asked, Asking
from sa_lightning.facts.closed_form import closed_form
from sa_lightning.facts.covariance import Report, covariance, inputs_of
from sa_lightning.facts.place import DownProjection, down_projection
from sa_lightning.facts.record import Fact
from sa_lightning.facts.texts import sequences_of
from sa_lightning.facts.values import Descent, Found, find_step
from sa_lightning.files import Json
from sa_lightning.surgery import Factors

__all__ = ["Editor", "Token", "key"]

Token = Literal["subject", "answer"]
TOKENS: tuple[Token, ...] = ("subject", "answer")
MET = -0.7  # log p of the target, in the mean over contexts, from which on a value is good enough


@dataclass
class Editor:
    """Writes facts into a model.

    Args:
        asking: The model.
        layers: Into whose MLP, from 0, first to last.
        text: On which keys are counted.
        contexts: What stands before prompts when keys and values are looked for.
        token: Where facts are read. If not set: at the subject, and where no value there makes the model say the target
            (`MET`), at the answer.
        fingerprint: Of the weights, to keep the covariance by.
        descent: How values are looked for.
        report: Told how far it has come.
        about: Said in the report of the edit, beside what was found.
    """

    asking: Asking
    layers: Sequence[int]
    text: Sequence[str]
    contexts: Sequence[str] = ("",)
    token: Token | None = None
    fingerprint: str | None = None
    descent: Descent = dataclasses.field(default_factory=Descent)
    report: Report | None = None
    about: Json = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places: list[DownProjection] = [down_projection(self.asking.model, layer) for layer in self.layers]
        self._covariances: list[Tensor] | None = None

    @property
    def covariances(self) -> list[Tensor]:
        """C of each place, once they are needed."""
        if self._covariances is None:
            sequences = sequences_of(self.asking, self.text)
            self._covariances = covariance(
                self.asking.model, self.places, sequences, fingerprint=self.fingerprint, report=self.report
            )
        return self._covariances

    def asked(self, fact: Fact, token: Token) -> list[Asked]:
        """The fact's prompt with its target, behind each context, with its places."""
        prompts = [before + fact.prompt for before in self.contexts]
        if token == "subject":
            return [self.asking.at_subject(prompt, fact.target, fact.subject) for prompt in prompts]
        return [self.asking.at_answer(prompt, fact.target, fact.old) for prompt in prompts]

    def write(self, facts: Sequence[Fact]) -> dict[str, Factors]:
        """Find what must be added to the weights of the down projections. The model stays as it is."""
        (place,) = self.places
        keys, found, tokens = [], [], []
        for done, fact in enumerate(facts):
            if self.report:
                self.report("looking for values", done, len(facts))
            for token in [self.token] if self.token else TOKENS:
                asked = self.asked(fact, token)
                one = find_step(self.asking, place, asked, fact, self.descent)
                if one.after > MET:
                    break
            keys.append(key(self.asking, place, asked))
            found.append(one)
            tokens.append(token)
        steps = torch.stack([one.step for one in found])
        left, right = closed_form(self.covariances[0], torch.stack(keys), steps)
        if place.input_first:
            left, right = right.T, left.T
        about = {
            "layer": place.layer,
            **self.about,
            "facts": [_about(*one) for one in zip(facts, found, tokens, strict=True)],
        }
        return {place.name: Factors(left.float().contiguous(), right.float().contiguous(), about)}


def key(asking: Asking, place: DownProjection, asked: Sequence[Asked]) -> Tensor:
    """k*: the mean of what goes into the down projection, over contexts and places in each; float32, on the CPU."""
    ids, mask = asking.rows([one.tokens for one in asked])
    (found,) = inputs_of(asking.model, [place], ids, mask)
    rows = [row[at].float() for row, one in zip(found, asked, strict=True) for at in one.places]
    return torch.stack(rows).mean(0).cpu()


def _about(fact: Fact, found: Found, token: str) -> Json:
    """A fact in the report: what was written, how likely it was and became while the value was looked for."""
    numbers = {"before": found.before, "after": found.after, "length": found.length}
    return {
        "subject": fact.subject,
        "prompt": fact.prompt,
        "target": fact.target,
        **({"old": fact.old} if fact.old else {}),
        "token": token,
        "log_probability": {name: round(numbers[name], 4) for name in ("before", "after")},
        "step": round(found.length, 4),
        "descent": found.steps,
    }
