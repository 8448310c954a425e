"""What verbs write: by one run at a time, and in place of nothing but what a verb has written and nobody changed."""

from sa_lightning.outputs.lock import locked
from sa_lightning.outputs.output import (
    RECORD,
    UNFINISHED,
    Foreign,
    Output,
    check_place,
    digest,
    note,
    noted,
    remove_empty,
)
from sa_lightning.outputs.seal import is_sealed, sealed

__all__ = [
    "RECORD",
    "UNFINISHED",
    "Foreign",
    "Output",
    "check_place",
    "digest",
    "is_sealed",
    "locked",
    "note",
    "noted",
    "remove_empty",
    "sealed",
]
