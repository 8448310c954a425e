"""The gates that can be fitted, by name: a new one is a file beside these, and a line here."""

from sa_lightning.steering.gates.condition import ConditionGate
from sa_lightning.steering.gates.gate import FittableGate
from sa_lightning.steering.gates.linear import LinearGate
from sa_lightning.steering.gates.transition import TransitionGate

GATES: dict[str, type[FittableGate]] = {
    "transition": TransitionGate,
    "linear": LinearGate,
    "condition": ConditionGate,
}
