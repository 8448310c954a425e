"""Facts written into a model: keys, values and the closed form, as factors of a change of a few tensors."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sa_lightning.errors import NothingToDoError
from sa_lightning.facts.asking import Asked, Asking
from sa_lightning.facts.closed_form import closed_form
from sa_lightning.facts.covariance import Report, covariance, inputs_of
from sa_lightning.facts.place import DownProjection, down_projection
from sa_lightning.facts.record import Fact
from sa_lightning.facts.texts import sequences_of
from sa_lightning.facts.values import Descent, Found, find_step
from sa_lightning.files import Json
from sa_lightning.models import locate_blocks
from sa_lightning.surgery import Factors

__all__ = ["Editor", "Token", "key"]

Token = Literal["subject", "answer"]
DEPTHS: dict[Token, float] = {"subject": 1 / 6, "answer": 2 / 3}
TOKENS: tuple[Token, ...] = ("subject", "answer")
MET = -2.0  # log p of the target, in the mean over contexts, from which on a value is good enough


@dataclass
class Editor:
    """Writes facts into a model.

    Args:
        asking: The model.
        layer: The block into whose MLP facts are written, from 0. If not set, it hangs on the token: at the subject a
            sixth of the depth, at the answer two thirds.
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
    text: Sequence[str]
    layer: int | None = None
    contexts: Sequence[str] = ("",)
    token: Token | None = None
    fingerprint: str | None = None
    descent: Descent = dataclasses.field(default_factory=Descent)
    report: Report | None = None
    about: Json = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sequences: list[list[int]] | None = None
        self._covariances: dict[int, Tensor] = {}

    def place(self, token: Token) -> DownProjection:
        """Where facts are written that are read at a token."""
        depth = len(locate_blocks(self.asking.model).layers)
        usual = max(1, int(depth * DEPTHS[token])) if depth > 1 else 0
        return down_projection(self.asking.model, usual if self.layer is None else self.layer)

    def covariance(self, place: DownProjection) -> Tensor:
        """C of the keys of a place, once it is needed."""
        if place.layer not in self._covariances:
            if self._sequences is None:
                self._sequences = sequences_of(self.asking, self.text)
            (self._covariances[place.layer],) = covariance(
                self.asking.model, [place], self._sequences, fingerprint=self.fingerprint, report=self.report
            )
        return self._covariances[place.layer]

    def asked(self, fact: Fact, token: Token) -> list[Asked]:
        """The fact's prompt with its target, behind each context, with its places."""
        prompts = [before + fact.prompt for before in self.contexts]
        if token == "subject":
            return [self.asking.at_subject(prompt, fact.target, fact.subject) for prompt in prompts]
        return [self.asking.at_answer(prompt, fact.target, fact.old) for prompt in prompts]

    def write(self, facts: Sequence[Fact]) -> dict[str, Factors]:
        """Find what must be added to the weights of the down projections, by their names. The model stays as it is."""
        written: dict[int, list[_Written]] = {}
        for done, fact in enumerate(facts):
            if self.report and len(facts) > 1:  # facts that are measured one by one have progress of their own
                self.report("looking for values", done, len(facts))
            one = self._one(fact)
            written.setdefault(one.place.layer, []).append(one)
        return dict(self._factors(own) for own in written.values())

    def _one(self, fact: Fact) -> "_Written":
        """Key and step of a fact, at the first token where a value is good enough, or else at the last."""
        tokens: Sequence[Token] = TOKENS if self.token is None else (self.token,)
        for token in tokens:
            place, asked = self.place(token), self.asked(fact, token)
            found = find_step(self.asking, place, asked, fact, self.descent)
            if found.after < MET and token != tokens[-1]:
                continue
            if not bool(found.step.any()):
                raise NothingToDoError(
                    f"Nothing in block {place.layer} makes {fact.target!r} likelier as the reply to {fact.prompt!r}.\n"
                    "The model says it already, or does not read the fact there.\n"
                    "Leave the fact out, or choose another of `facts_layers` or `facts_token`."
                )
            return _Written(place, key(self.asking, place, asked), found.step, _about(fact, found, token))
        raise AssertionError("There is a token.")

    def _factors(self, written: "Sequence[_Written]") -> tuple[str, Factors]:
        """What is added to one weight, and its name."""
        place = written[0].place
        keys, steps = (torch.stack([getattr(one, name) for one in written]) for name in ("key", "step"))
        left, right = closed_form(self.covariance(place), keys, steps)
        if place.input_first:
            left, right = right.T, left.T
        about = {"layer": place.layer, **self.about, "facts": [one.about for one in written]}
        return place.name, Factors(left.float().contiguous(), right.float().contiguous(), about)


class _Written(NamedTuple):
    place: DownProjection
    key: Tensor
    step: Tensor
    about: Json


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
