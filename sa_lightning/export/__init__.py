"""The result, for the rest of the world.

The way: an artifact (`steering`) becomes what another program reads or runs: `lm_eval_file` writes the file that
lm-eval's own model `steered` reads, `lm_eval_model` is lm-eval's model `sa`.
"""

from sa_lightning.export.lm_eval_file import steered_hooks, write_steered

__all__ = ["steered_hooks", "write_steered"]
