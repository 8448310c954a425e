"""What we need to know about someone else's model.

The way: a name on disk or on the Hub is loaded (`loading`, or `sharded` over processes; `adapters` are merged) if it is
what was asked for (`as_asked`), with its `tokenizer` and template (`chat`); its decoder blocks are found (`blocks`),
positions are counted under padding (`positions`), and conversations become token ids with places to read (`passages`),
in batches (`batches`).
"""

from sa_lightning.models.adapters import base_of, merge_adapter
from sa_lightning.models.batches import PassageBatch, collate, plan_batches
from sa_lightning.models.blocks import Blocks, locate_blocks
from sa_lightning.models.chat import decode, render, template_arguments, tokenize
from sa_lightning.models.loading import load_config, load_model
from sa_lightning.models.passages import Passage, PassagePair, Position, passage, template_tail
from sa_lightning.models.positions import last_positions, position_ids
from sa_lightning.models.sharded import load_sharded
from sa_lightning.models.stored.quantised import quantization_of
from sa_lightning.models.target import LoadedModel, Target
from sa_lightning.models.tokenizer import check_vocabulary, load_tokenizer

__all__ = [
    "Blocks",
    "LoadedModel",
    "Passage",
    "PassageBatch",
    "PassagePair",
    "Position",
    "Target",
    "base_of",
    "check_vocabulary",
    "collate",
    "decode",
    "last_positions",
    "load_config",
    "load_model",
    "load_sharded",
    "load_tokenizer",
    "locate_blocks",
    "merge_adapter",
    "passage",
    "plan_batches",
    "position_ids",
    "quantization_of",
    "render",
    "template_arguments",
    "template_tail",
    "tokenize",
]
