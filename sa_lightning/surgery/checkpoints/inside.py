"""What a checkpoint may name: files of its own directory; of a snapshot of the Hub, those of its blobs, too."""

from pathlib import Path

from sa_lightning.errors import CheckpointError

__all__ = ["check_inside"]


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
