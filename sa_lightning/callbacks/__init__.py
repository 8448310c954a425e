"""Our mathematics at Lightning's moments.

`surgery` edits the parameters and undoes it, `extraction` fits directions while a run goes over the
demonstrations, `steering` applies an artifact, `evaluation` and `prediction` collect what comes
out, `provenance` writes down where it came from. `strategy` lets several processes run a model
of which nothing is trained, or share it out among them.
"""

from sa_lightning.callbacks.evaluation import EvaluationCallback
from sa_lightning.callbacks.extraction import ExtractionCallback
from sa_lightning.callbacks.pair_states import PairStatesMetric
from sa_lightning.callbacks.prediction import PredictionCallback
from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.callbacks.steering import SteeringCallback
from sa_lightning.callbacks.strategy import FrozenDDPStrategy, ShardedStrategy
from sa_lightning.callbacks.surgery import SurgeryCallback

__all__ = [
    "EvaluationCallback",
    "ExtractionCallback",
    "FrozenDDPStrategy",
    "PairStatesMetric",
    "PredictionCallback",
    "ProvenanceCallback",
    "ShardedStrategy",
    "SteeringCallback",
    "SurgeryCallback",
]
