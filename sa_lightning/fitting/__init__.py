"""Where models, surgery and steering meet while something is fitted. No Lightning.

The way: states are read of passages (`extraction`), of `prompts` for gates and `parts`; the words that directions write
choose among `segments` of layers; norms of `ordinary` states and a search for the largest `strength` make a `dose`, put
into an artifact by `calibration`. A `surgery` edits the weights of a loaded model, scored on
`examples`, and undoes it.
"""

from sa_lightning.fitting.dose import doses
from sa_lightning.fitting.extraction import StateReader, extract
from sa_lightning.fitting.ordinary import OrdinaryStates, ordinary_states
from sa_lightning.fitting.strength import HarmlessReplies, StrengthSearch, largest_strength
from sa_lightning.fitting.surgery import Surgery

__all__ = [
    "HarmlessReplies",
    "OrdinaryStates",
    "StateReader",
    "StrengthSearch",
    "Surgery",
    "doses",
    "extract",
    "largest_strength",
    "ordinary_states",
]
