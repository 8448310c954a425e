"""Facts written into a model's weights: a rank-one editor, and what is measured of it.

A `record` is asked (`asking`), and kept if the model knows it (`known`). At the `place` where an MLP writes, its key is
read, the `covariance` of keys is counted on text (`texts`), the value is looked for (`values`), and the `closed_form`
joins them (`editor`, `writing`); `measuring` tells what an edit did.
"""

from sa_lightning.facts.record import Fact, Neighbour, read_facts, write_facts
from sa_lightning.facts.writing import written

__all__ = ["Fact", "Neighbour", "read_facts", "write_facts", "written"]
