"""Facts written into a model: keys, values and the closed form, as factors of a change of a few tensors."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sa_lightning.facts.asking import Asking
from sa_lightning.facts.closed_form import closed_form
from sa_lightning.facts.covariance import Report, covariance, inputs_of
from sa_lightning.facts.place import DownProjection, down_projection
from sa_lightning.facts.record import Fact
from sa_lightning.facts.texts import sequences_of
from sa_lightning.facts.values import Descent, Found, find_step
from sa_lightning.files import Json
from sa_lightning.surgery import Factors

__all__ = ["Editor", "key"]


@dataclass
class Editor:
    """Writes facts into a model.

    Args:
        asking: The model.
        layers: Into whose MLP, from 0, first to last.
        text: On which keys are counted.
        contexts: What stands before prompts when keys and values are looked for.
        fingerprint: Of the weights, to keep the covariance by.
        descent: How values are looked for.
        report: Told how far it has come.
        about: Said in the report of the edit, beside what was found.
    """

    asking: Asking
    layers: Sequence[int]
    text: Sequence[str]
    contexts: Sequence[str] = ("",)
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

    def write(self, facts: Sequence[Fact]) -> dict[str, Factors]:
        """Find what must be added to the weights of the down projections. The model stays as it is."""
        (place,) = self.places
        keys, found = [], []
        for done, fact in enumerate(facts):
            if self.report:
                self.report("looking for the values of facts", done, len(facts))
            keys.append(key(self.asking, place, fact, self.contexts))
            found.append(find_step(self.asking, place, fact, self.contexts, self.descent))
        steps = torch.stack([one.step for one in found])
        left, right = closed_form(self.covariances[0], torch.stack(keys), steps)
        if place.input_first:
            left, right = right.T, left.T
        about = {
            "layer": place.layer,
            **self.about,
            "facts": [_about(fact, one) for fact, one in zip(facts, found, strict=True)],
        }
        return {place.name: Factors(left.float().contiguous(), right.float().contiguous(), about)}


def key(asking: Asking, place: DownProjection, fact: Fact, contexts: Sequence[str]) -> Tensor:
    """k*: the mean, over contexts, of what goes into the down projection at the last token of the subject; float32."""
    asked = [asking.asked(before + fact.prompt, subject=fact.subject) for before in contexts]
    ids, mask = asking.rows([one.tokens for one in asked])
    (found,) = inputs_of(asking.model, [place], ids, mask)
    return torch.stack([row[one.subject].float() for row, one in zip(found, asked, strict=True)]).mean(0).cpu()


def _about(fact: Fact, found: Found) -> Json:
    """A fact in the report: what was written, how likely it was and became while the value was looked for."""
    numbers = {"before": found.before, "after": found.after, "length": found.length}
    return {
        "subject": fact.subject,
        "prompt": fact.prompt,
        "target": fact.target,
        **({"old": fact.old} if fact.old else {}),
        "log_probability": {name: round(numbers[name], 4) for name in ("before", "after")},
        "step": round(found.length, 4),
        "descent": found.steps,
    }
