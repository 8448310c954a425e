"""The tiny world: small models of known behaviour in an invented instruction language.

Recipe and seed -> language and splits -> training -> gates -> a directory of Hugging Face
checkpoints and JSON lines. `build_world` does it all, and only once.
"""

from sa_lightning.testbed.build import build_world, world_directory
from sa_lightning.testbed.gates import Gate, measure
from sa_lightning.testbed.language import tokenizer
from sa_lightning.testbed.prompts import KINDS, demonstrations, rows
from sa_lightning.testbed.recipe import WORLDS, Stage, WorldSettings
from sa_lightning.testbed.record import PARTS
from sa_lightning.testbed.sentences import DEFINITION, HOW_TO, REFUSALS
from sa_lightning.testbed.world import World

__all__ = [
    "DEFINITION",
    "HOW_TO",
    "KINDS",
    "PARTS",
    "REFUSALS",
    "WORLDS",
    "Gate",
    "Stage",
    "World",
    "WorldSettings",
    "build_world",
    "demonstrations",
    "measure",
    "rows",
    "tokenizer",
    "world_directory",
]
