"""Where models, surgery and steering meet while something is fitted. No Lightning.

The way of steering: `settings` say what is wanted; pairs of `demonstrations` become passages, whose states are read
(`extraction`), as are `prompts` for gates and `rules`; the words that directions write choose among `segments` of
layers; norms of `ordinary` states and a search for the largest `strength` give the doses (`calibration`); and all of
it makes an `artifact`. A `surgery` edits the weights of a loaded model, scored on `examples`, and undoes it.
"""

from sa_lightning.fitting.artifact import ArtifactFit, fit_artifact
from sa_lightning.fitting.calibration import doses
from sa_lightning.fitting.demonstrations import Demonstrations
from sa_lightning.fitting.extraction import StateReader, extract, extract_passages
from sa_lightning.fitting.ordinary import OrdinaryStates, ordinary_states
from sa_lightning.fitting.settings import SteeringSettings
from sa_lightning.fitting.strength import HarmlessReplies, StrengthSearch, largest_strength
from sa_lightning.fitting.surgery import Surgery

__all__ = [
    "ArtifactFit",
    "Demonstrations",
    "HarmlessReplies",
    "OrdinaryStates",
    "StateReader",
    "SteeringSettings",
    "StrengthSearch",
    "Surgery",
    "doses",
    "extract",
    "extract_passages",
    "fit_artifact",
    "largest_strength",
    "ordinary_states",
]
