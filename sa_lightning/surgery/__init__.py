"""Parameter surgery: checkpoints in, edited checkpoint out, some rows of a tensor at a time.

The way of the data: checkpoint → delta → scope → selection → edit. Every part can be had in several kinds: a delta
may be a task vector, a combination, a rank-one direction; a selection may be by magnitude, score, lot or head.
"""

from sa_lightning.surgery.adapter import AdaptedCheckpoint
from sa_lightning.surgery.checkpoint import Checkpoint
from sa_lightning.surgery.damage import AnswerShift
from sa_lightning.surgery.dare import Dare
from sa_lightning.surgery.delta import Combination, Delta, Orthogonalised, OwnWeights
from sa_lightning.surgery.edit import EditPlan
from sa_lightning.surgery.edit_area import changed_layers, resolve
from sa_lightning.surgery.edit_in_memory import EditInMemory
from sa_lightning.surgery.edited_checkpoint import check_output, write_edit
from sa_lightning.surgery.head_mask import HeadMask
from sa_lightning.surgery.layer_scales import find_layer_scales
from sa_lightning.surgery.lineage import Kinship, kinship, lineage
from sa_lightning.surgery.plan import plan_edit, plan_surgery
from sa_lightning.surgery.rank_one import RankOne, read_direction
from sa_lightning.surgery.ranking import ByFisher, ByLot, ByMagnitude, ByScore, Ranking
from sa_lightning.surgery.saliency import Example, saliency_scores, write_scores
from sa_lightning.surgery.scope import Scope
from sa_lightning.surgery.selection import Chosen, Selection, entries_to_keep, select
from sa_lightning.surgery.set_difference import SetDifference
from sa_lightning.surgery.settings import EditSettings, Minus
from sa_lightning.surgery.sources import Sources, check_sources, plan_from
from sa_lightning.surgery.streaming import Progress
from sa_lightning.surgery.task_vector import TaskVector, check_match
from sa_lightning.surgery.ties_merge import TiesMerge
from sa_lightning.surgery.weights import ModelWeights, NamedTensors, Weights, fingerprint

__all__ = [
    "AdaptedCheckpoint",
    "AnswerShift",
    "ByFisher",
    "ByLot",
    "ByMagnitude",
    "ByScore",
    "Checkpoint",
    "Chosen",
    "Combination",
    "Dare",
    "Delta",
    "EditInMemory",
    "EditPlan",
    "EditSettings",
    "Example",
    "HeadMask",
    "Kinship",
    "Minus",
    "ModelWeights",
    "NamedTensors",
    "Orthogonalised",
    "OwnWeights",
    "Progress",
    "RankOne",
    "Ranking",
    "Scope",
    "Selection",
    "SetDifference",
    "Sources",
    "TaskVector",
    "TiesMerge",
    "Weights",
    "changed_layers",
    "check_match",
    "check_output",
    "check_sources",
    "entries_to_keep",
    "find_layer_scales",
    "fingerprint",
    "kinship",
    "lineage",
    "plan_edit",
    "plan_from",
    "plan_surgery",
    "read_direction",
    "resolve",
    "saliency_scores",
    "select",
    "write_edit",
    "write_scores",
]
