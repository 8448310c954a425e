"""Prompts and demonstrations as batches.

`demonstrations` feeds `sa fit`, `prompts` feeds `sa predict`: they deal batches to processes through
`sampling`, so that every process gets the same number of them. `arms` feeds `sa validate`, where every process
runs every arm. `registry` knows the data sets of the field: where they lie, under which licence.

Each name loads its file when it is first used, so that the registry costs no import of Lightning.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa_lightning.datamodules.arms import ARMS, ARMS_APART, Arm, ArmDataModule, choose_arms
    from sa_lightning.datamodules.demonstrations import DemonstrationDataModule
    from sa_lightning.datamodules.prompts import PromptBatch, PromptDataModule
    from sa_lightning.datamodules.sampling import ShardedBatchSampler

__all__ = [
    "ARMS",
    "ARMS_APART",
    "Arm",
    "ArmDataModule",
    "DemonstrationDataModule",
    "PromptBatch",
    "PromptDataModule",
    "ShardedBatchSampler",
    "choose_arms",
]

_FILES = {
    "arms": ("ARMS", "ARMS_APART", "Arm", "ArmDataModule", "choose_arms"),
    "demonstrations": ("DemonstrationDataModule",),
    "prompts": ("PromptBatch", "PromptDataModule"),
    "sampling": ("ShardedBatchSampler",),
}


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"sa_lightning.datamodules.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
