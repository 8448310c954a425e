"""Parameter surgery: checkpoints in, edited checkpoint out, one tensor at a time.

The way of the data: checkpoint → task vector → scope → selection → edit.
"""

from sa_lightning.surgery.adapter import AdaptedCheckpoint
from sa_lightning.surgery.checkpoint import Checkpoint
from sa_lightning.surgery.edit import EditPlan, EditSettings, plan_edit
from sa_lightning.surgery.edit_in_memory import EditInMemory
from sa_lightning.surgery.edited_checkpoint import check_output, write_edit
from sa_lightning.surgery.scope import Scope
from sa_lightning.surgery.selection import Selection, entries_to_keep, select
from sa_lightning.surgery.task_vector import TaskVector, check_match
from sa_lightning.surgery.weights import ModelWeights, Weights, fingerprint

__all__ = [
    "AdaptedCheckpoint",
    "Checkpoint",
    "EditInMemory",
    "EditPlan",
    "EditSettings",
    "ModelWeights",
    "Scope",
    "Selection",
    "TaskVector",
    "Weights",
    "check_match",
    "check_output",
    "entries_to_keep",
    "fingerprint",
    "plan_edit",
    "select",
    "write_edit",
]
