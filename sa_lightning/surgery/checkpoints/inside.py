"""What a checkpoint may name: files of its own directory; of a snapshot of the Hub, those of its blobs, too."""

from pathlib import Path
from typing import Any

from sa_lightning.errors import CheckpointError

__all__ = ["check_inside", "shard_name"]


def shard_name(name: Any, index: Path) -> str:
    """Return the name of a shard as an index has it, if it is one of a file beside the index.

    Raises:
        CheckpointError: If it leads elsewhere, is hidden, or is no safetensors file, so that another file would be read
            or written for it.
    """
    plain = isinstance(name, str) and name.isprintable() and not set(name) & set("/\\")
    if plain and name.endswith(".safetensors") and name[0] != "." and len(name.encode()) <= 255:
        return str(name)
    raise CheckpointError(
        f"{index} names the shard {name!r}, which is no safetensors file beside it.\n"
        "What an index names is read, and written under the same name.\n"
        "Rename the shard to model-….safetensors, there and in the index, or save the checkpoint again."
    )


def check_inside(directory: Path, file: Path) -> None:
    """Refuse a file of a checkpoint that is a link to somewhere else: its copy would carry what lies there.

    Args:
        directory: Of the checkpoint.
        file: In it.

    Raises:
        CheckpointError: With where the link leads.
    """
    home, there = directory.resolve(), file.resolve()
    roots = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    if not any(there.is_relative_to(root) for root in roots):
        raise CheckpointError(
            f"{file} is a link to {there}, outside of the checkpoint.\nIt would be copied beside the edited weights.\n"
            "Put the file itself in place of the link, or take it away."
        )
