"""The few errors a caller may want to catch: a person can act on each of them; and what their messages say alike.

The command line prints them without a traceback and exits with status 2.
"""

from typing import Any

__all__ = [
    "ArtifactError",
    "CheckpointError",
    "CheckpointMismatchError",
    "DataError",
    "IncompleteError",
    "JudgeError",
    "ModelError",
    "NothingToDoError",
    "SaError",
    "SettingError",
    "StepTooLargeError",
    "WorldError",
    "differences",
]


class SaError(Exception):
    """A mistake that the person at the terminal can mend: the message says how."""


class CheckpointError(SaError):
    """A checkpoint is missing, unreadable or in a format that we refuse to read."""


class CheckpointMismatchError(CheckpointError):
    """Two checkpoints, or a checkpoint and a model, do not belong together."""


class StepTooLargeError(CheckpointError):
    """An edit leads to values that the data type of the weights cannot hold."""


class NothingToDoError(SaError):
    """The request would change nothing, so it is more likely a mistake than a wish."""


class DataError(SaError):
    """Prompts or demonstrations are missing, empty or one-sided."""


class JudgeError(SaError):
    """A judge cannot be asked: its server is absent, refuses us, or does not answer."""


class ModelError(SaError):
    """A model lacks what the request needs: a chat template, known decoder blocks."""


class ArtifactError(SaError):
    """A steering artifact is damaged, or was fitted on another model."""


class SettingError(SaError, ValueError):
    """A setting has a value that cannot be meant."""


class IncompleteError(Exception):
    """A run was stopped, by a callback say, before it had done what was asked: no mistake of a person, no success."""


class WorldError(SaError):
    """A tiny world is unknown, or missed one of its quality gates."""


def differences(before: Any, now: Any, name: str = "") -> str:
    """Say where two settings differ, key by key of nested dicts: "`a.b` was 1, now 2"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        return "; ".join(differences(before.get(key), now.get(key), f"{name}.{key}".strip(".")) for key in keys)
    return f"`{name}` was {before}, now {now}"
