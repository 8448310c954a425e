"""Facts written into a model's weights: a rank-one editor, and what is measured of it.

A `record` is asked (`asking`), and kept if the model knows it (`known`). At the `place` where an MLP writes, its key is
read, the `covariance` of keys is counted on text (`texts`), the value is looked for (`values`), and the `closed_form`
joins them (`editor`, `writing`); `measuring` tells what an edit did.
"""

from sa_lightning.facts.asking import Asking
from sa_lightning.facts.editor import Editor
from sa_lightning.facts.known import known
from sa_lightning.facts.measuring import MEASURES, Outcome, measure, measure_one_by_one, totals
from sa_lightning.facts.record import Fact, Neighbour, begins_with, holds, read_facts, write_facts
from sa_lightning.facts.writing import editor_of, facts_of, written

__all__ = [
    "MEASURES",
    "Asking",
    "Editor",
    "Fact",
    "Neighbour",
    "Outcome",
    "begins_with",
    "editor_of",
    "facts_of",
    "holds",
    "known",
    "measure",
    "measure_one_by_one",
    "read_facts",
    "totals",
    "write_facts",
    "written",
]
