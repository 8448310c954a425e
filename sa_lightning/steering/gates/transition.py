"""SCANS (Cao et al., arXiv 2408.11491): the transition by which a prompt is told harmful.

Written from the paper and from what its code (zouyingcao/SCANS at 9dc20d2) was read to do; where they differ, the
docstrings say which is which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.steering.directions.unpaired import PerLayer, States, check_anchors
from sa_lightning.steering.gates.gate import Anchors, FittableGate, PerPrompt, Reading


def transition_reference(end: States, appended: States) -> PerLayer:
    """Mean over harmful anchors of how the state changes when an agreeing word is appended to the prompt.

    Eq. 2 and 4 of SCANS: a_p − a_e, with a_p at the last token of the template (the paper says "of the query"; its code
    takes the token that predicts the reply) and a_e at the last token of the appended text, "Sure". The sign does not
    matter as long as it is that of `transition_scores`. In float64.

    Raises:
        DataError: If there are no anchors, or one is not finite.
    """
    check_anchors(end, "harmful")
    check_anchors(appended, "harmful")
    return (end.double() - appended.double()).mean(0)


def transition_scores(end: States, appended: States, reference: PerLayer) -> Float[Tensor, " prompts"]:
    """Return how alike each prompt's transition is to that of harmful anchors: the mean cosine over the layers.

    Eq. 5 of SCANS: a prompt is taken for harmful from the threshold T on. A layer without any transition (a zero
    vector) counts as 0, as do NaN in the authors' code. In float32, on the device of the states.

    Args:
        end: States at the last token of the prompt, of the layers that the gate reads.
        appended: States at the last token of what was appended.
        reference: From `transition_reference`, of the same layers.

    Returns:
        Values in [−1, 1].
    """
    moved, known = (end - appended).float(), reference.to(end.device).float()
    cosines = torch.nn.functional.cosine_similarity(moved, known[None], dim=-1)
    return cosines.nan_to_num(nan=0.0).mean(-1)


@dataclass(frozen=True, eq=False)
class TransitionGate(FittableGate):
    """SCANS: the mean cosine of a prompt's transition with that of harmful anchors (`transition_scores`).

    Attributes:
        layers: Whose transitions are compared; the paper takes the middle and latter ones.
        reference: From `transition_reference`, shape (layers, d_model).
    """

    READS: ClassVar[frozenset[str]] = frozenset({"appended"})
    COSINE: ClassVar[bool] = True

    reference: Float[Tensor, "layers d_model"]

    @classmethod
    def fit(cls, layers: Sequence[int], positive: Anchors, negative: Anchors) -> "TransitionGate":
        """Take the mean transition of the first; the others are not looked at."""
        assert positive.appended is not None, "states behind the word are read where a transition is asked for"
        return cls(tuple(layers), transition_reference(positive.end, positive.appended).float())

    def kept(self) -> tuple[Float[Tensor, "layers d_model"], dict[str, float]]:
        """Return the reference."""
        return self.reference, {}

    @classmethod
    def restored(
        cls, layers: Sequence[int], vectors: Float[Tensor, "layers d_model"], numbers: Mapping[str, float]
    ) -> "TransitionGate":
        """Return the gate that was `kept`."""
        return cls(tuple(layers), vectors)

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return the scores, in [−1, 1]."""
        assert reading.appended is not None, "the reader has appended what the gate asks for"
        end, appended = (reading.of(states, self.layers) for states in (reading.end, reading.appended))
        return transition_scores(end, appended, self.reference)
