"""A loaded model as its files have it."""

from sa_lightning.models.stored.names import as_stored

__all__ = ["as_stored"]
