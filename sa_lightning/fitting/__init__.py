"""Where models and steering meet while something is fitted: typical norms, doses, strengths. No Lightning."""

from sa_lightning.fitting.dose import doses
from sa_lightning.fitting.ordinary import OrdinaryStates, ordinary_states
from sa_lightning.fitting.strength import HarmlessReplies, StrengthSearch, largest_strength

__all__ = ["HarmlessReplies", "OrdinaryStates", "StrengthSearch", "doses", "largest_strength", "ordinary_states"]
