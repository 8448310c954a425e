"""The result, for the rest of the world.

The way: an artifact (`steering`) is put into the words of a format (`acts`, `formats`), written (`lm_eval_file`,
`vectors`, `requests`, `checkpoint`), read again (`readers`) and compared with our hooks (`proof`); `exporting` does all
of it. `lm_eval_model` is lm-eval's model `sa`, `skeleton` what adapters are checked with.
"""

from sa_lightning.export.exporting import Settings, export
from sa_lightning.export.formats import FORMATS

__all__ = ["FORMATS", "Settings", "export"]
