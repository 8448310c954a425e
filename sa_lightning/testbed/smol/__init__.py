"""The `smol` world: a real chat model, and fine-tunes of it that are safe, too careful, eroded or harmful.

Public prompts, and harmless ones of ours -> families and splits -> chat's own replies -> training -> gates -> a
directory of checkpoints and JSON lines. `build_smol` does it all, and only once.
"""

from sa_lightning.testbed.smol.build import SMOL, build_smol, smol_directory
from sa_lightning.testbed.smol.prompts import SOURCES, Row, rows
from sa_lightning.testbed.smol.recipe import Lesson, SmolSettings

__all__ = ["SMOL", "SOURCES", "Lesson", "Row", "SmolSettings", "build_smol", "rows", "smol_directory"]
