"""Facts written into a model: keys, values and the closed form, as factors of a change of one tensor."""

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
from sa_lightning.facts.values import Descent, Found, find_step

__all__ = ["Editor", "Written", "key"]


@dataclass(frozen=True)
class Written:
    """What facts change: W + left @ right.

    Attributes:
        name: Of the weight.
        left, right: Factors, (rows, facts) and (facts, columns), as the weight is stored, float32.
        found: How each step was found.
    """

    name: str
    left: Tensor
    right: Tensor
    found: tuple[Found, ...]


@dataclass
class Editor:
    """Writes facts into one block of a model.

    Args:
        asking: The model.
        layer: Of the block, from 0.
        sequences: Token ids of a text, for the covariance of keys.
        contexts: What stands before prompts when keys and values are looked for.
        fingerprint: Of the weights, to keep the covariance by.
        descent: How values are looked for.
        report: Told how far it has come.
    """

    asking: Asking
    layer: int
    sequences: Sequence[Sequence[int]]
    contexts: Sequence[str] = ("",)
    fingerprint: str | None = None
    descent: Descent = dataclasses.field(default_factory=Descent)
    report: Report | None = None

    def __post_init__(self) -> None:
        self.place: DownProjection = down_projection(self.asking.model, self.layer)
        self._covariance: Tensor | None = None

    @property
    def covariance(self) -> Tensor:
        """C, once it is needed."""
        if self._covariance is None:
            (self._covariance,) = covariance(
                self.asking.model,
                [self.place],
                self.sequences,
                fingerprint=self.fingerprint,
                report=self.report,
            )
        return self._covariance

    def write(self, facts: Sequence[Fact]) -> Written:
        """Find what must be added to the weight of the down projection. The model stays as it is."""
        keys, steps = [], []
        for done, fact in enumerate(facts):
            if self.report:
                self.report("looking for the values of facts", done, len(facts))
            keys.append(key(self.asking, self.place, fact, self.contexts))
            steps.append(find_step(self.asking, self.place, fact, self.contexts, self.descent))
        left, right = closed_form(self.covariance, torch.stack(keys), torch.stack([one.step for one in steps]))
        if self.place.input_first:
            left, right = right.T, left.T
        return Written(self.place.name, left.float(), right.float(), tuple(steps))


def key(asking: Asking, place: DownProjection, fact: Fact, contexts: Sequence[str]) -> Tensor:
    """k*: the mean, over contexts, of what goes into the down projection at the last token of the subject; float32."""
    asked = [asking.asked(before + fact.prompt, subject=fact.subject) for before in contexts]
    ids, mask = asking.rows([one.tokens for one in asked])
    (found,) = inputs_of(asking.model, [place], ids, mask)
    return torch.stack([row[one.subject].float() for row, one in zip(found, asked, strict=True)]).mean(0).cpu()
