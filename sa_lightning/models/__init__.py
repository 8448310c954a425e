"""What we need to know about someone else's model.

The way: a name on disk or on the Hub is loaded (`loading`) with its template (`prompts`),
its decoder blocks are found (`blocks`), and positions are counted under padding (`positions`).
"""

from sa_lightning.models.blocks import Blocks, locate_blocks
from sa_lightning.models.loading import base_of, is_adapter, load_config, load_model, merge_adapter
from sa_lightning.models.positions import last_positions, position_ids
from sa_lightning.models.prompts import load_tokenizer, render, tokenize

__all__ = [
    "Blocks",
    "base_of",
    "is_adapter",
    "last_positions",
    "load_config",
    "load_model",
    "load_tokenizer",
    "locate_blocks",
    "merge_adapter",
    "position_ids",
    "render",
    "tokenize",
]
