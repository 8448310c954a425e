"""Parameter surgery: checkpoints in, edited checkpoint out, some rows of a tensor at a time.

The way of the data: checkpoint → delta → scope → selection → edit. Deltas, merges of deltas, selections and operators
are rows of tables: `DELTAS`, `MERGES`, `SELECTIONS`, `OPERATORS`.
"""

from sa_lightning.surgery.adapters.output import check_rank, write_adapter
from sa_lightning.surgery.adapters.place import Place
from sa_lightning.surgery.checkpoints.adapted import AdaptedCheckpoint
from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.opening import open_checkpoint
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import (
    ModelWeights,
    NamedTensors,
    Weights,
    content_fingerprint,
    packed_edit,
)
from sa_lightning.surgery.delta import Combination, Delta, Orthogonalised, OwnWeights
from sa_lightning.surgery.deltas.edit_area import changed_layers, resolve
from sa_lightning.surgery.deltas.facts import LowRank
from sa_lightning.surgery.deltas.kind import Factors
from sa_lightning.surgery.deltas.lineage import Kinship, kinship, lineage
from sa_lightning.surgery.deltas.merges import MERGES
from sa_lightning.surgery.deltas.rank_one import RankOne, read_direction
from sa_lightning.surgery.deltas.table import DELTAS, kind_of
from sa_lightning.surgery.deltas.task_vector import TaskVector, check_match
from sa_lightning.surgery.deltas.ties_merge import TiesMerge
from sa_lightning.surgery.edit.answer_shift import AnswerShift
from sa_lightning.surgery.edit.choosing import choose
from sa_lightning.surgery.edit.in_memory import EditInMemory
from sa_lightning.surgery.edit.layer_scales import find_layer_scales
from sa_lightning.surgery.edit.on_disk import check_output, write_edit
from sa_lightning.surgery.edit.opening import check_settings, check_sources, plan_from
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.edit.planning import plan_edit, plan_surgery
from sa_lightning.surgery.edit.saliency import Example, saliency_scores, write_scores
from sa_lightning.surgery.edit.settings import EditSettings, Minus
from sa_lightning.surgery.edit.sources import Sources, SurgeryOptions
from sa_lightning.surgery.operators.table import OPERATORS
from sa_lightning.surgery.scope import Scope
from sa_lightning.surgery.selection.dare import Dare
from sa_lightning.surgery.selection.heads import HeadMask
from sa_lightning.surgery.selection.ranking import ByFisher, ByMagnitude, ByRandom, ByScore, Ranking
from sa_lightning.surgery.selection.set_difference import SetDifference
from sa_lightning.surgery.selection.table import SELECTIONS
from sa_lightning.surgery.selection.top_k import Chosen, Selection, entries_to_keep, select

__all__ = [
    "DELTAS",
    "MERGES",
    "OPERATORS",
    "SELECTIONS",
    "AdaptedCheckpoint",
    "AnswerShift",
    "ByFisher",
    "ByMagnitude",
    "ByRandom",
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
    "Factors",
    "HeadMask",
    "Kinship",
    "LowRank",
    "Minus",
    "ModelWeights",
    "NamedTensors",
    "Orthogonalised",
    "OwnWeights",
    "Place",
    "Progress",
    "RankOne",
    "Ranking",
    "Scope",
    "Selection",
    "SetDifference",
    "Sources",
    "SurgeryOptions",
    "TaskVector",
    "TiesMerge",
    "Weights",
    "changed_layers",
    "check_match",
    "check_output",
    "check_rank",
    "check_settings",
    "check_sources",
    "choose",
    "content_fingerprint",
    "entries_to_keep",
    "find_layer_scales",
    "kind_of",
    "kinship",
    "lineage",
    "open_checkpoint",
    "packed_edit",
    "plan_edit",
    "plan_from",
    "plan_surgery",
    "read_direction",
    "resolve",
    "saliency_scores",
    "select",
    "write_adapter",
    "write_edit",
    "write_scores",
]
