"""Prompts and demonstrations as batches.

`demonstrations` feeds `sa fit`, `prompts` feeds `sa predict`: they deal batches to processes through
`sampling`, so that every process gets the same number of them. `arms` feeds `sa validate`, where every process
runs every arm.
"""

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
