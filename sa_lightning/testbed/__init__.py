"""Worlds: small models of known behaviour in an invented instruction language; and `smol`, of real ones.

Recipe and seed -> language and splits -> training -> gates -> a directory of Hugging Face
checkpoints and JSON lines. `build_world` does it all, and only once.
"""

from sa_lightning.testbed.acceptance import Gate, measure
from sa_lightning.testbed.build import build_world, world_directory
from sa_lightning.testbed.language.language import LANGUAGES, Language
from sa_lightning.testbed.language.sentences import DEFINITION
from sa_lightning.testbed.prompts import KINDS, demonstrations, rows
from sa_lightning.testbed.real import REAL, real_part
from sa_lightning.testbed.recipe import WORLDS, Stage, WorldSettings
from sa_lightning.testbed.world import World

__all__ = [
    "DEFINITION",
    "KINDS",
    "LANGUAGES",
    "REAL",
    "WORLDS",
    "Gate",
    "Language",
    "Stage",
    "World",
    "WorldSettings",
    "build_world",
    "demonstrations",
    "measure",
    "real_part",
    "rows",
    "world_directory",
]
