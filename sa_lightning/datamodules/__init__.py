"""Prompts and demonstrations as batches.

`demonstrations` feeds `sa fit`, `arms` feeds `sa validate`, `prompts` feeds `sa predict`; all three
deal batches to processes through `sampling`, so that every process gets the same number of them.
"""

from sa_lightning.datamodules.arms import ARMS, Arm, ArmDataModule, choose_arms
from sa_lightning.datamodules.demonstrations import DemonstrationDataModule
from sa_lightning.datamodules.prompts import PromptBatch, PromptDataModule
from sa_lightning.datamodules.sampling import ShardedBatchSampler

__all__ = [
    "ARMS",
    "Arm",
    "ArmDataModule",
    "DemonstrationDataModule",
    "PromptBatch",
    "PromptDataModule",
    "ShardedBatchSampler",
    "choose_arms",
]
