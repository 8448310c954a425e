"""The table of data sets: one row each. None of them comes with this package.

Hashes are those of the copies that this project was tested with, in the layout of their authors. "Redistributable"
is a reading of the stated licences, not legal advice; sets with harmful completions are kept out in any case.
"""

from sa_lightning.data.benchmark import Benchmark
from sa_lightning.data.demonstrations import DEMONSTRATIONS
from sa_lightning.data.harmful import HARMFUL
from sa_lightning.data.labelled import LABELLED
from sa_lightning.data.over_refusal import OVER_REFUSAL
from sa_lightning.data.utility import UTILITY

DATASETS: dict[str, Benchmark] = {**HARMFUL, **OVER_REFUSAL, **DEMONSTRATIONS, **LABELLED, **UTILITY}
"""Name, as of its directory in `$SA_DATA_DIR`, to data set."""
