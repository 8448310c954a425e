"""The result, for the rest of the world.

The way: an artifact (`steering`) becomes a file that another program reads. `lm_eval` writes what lm-eval's own model
`steered` reads.
"""

from sa_lightning.export.lm_eval_file import steered_hooks, write_steered

__all__ = ["steered_hooks", "write_steered"]
