"""What comes with the package besides code: configs and tasks, in a checkout or in an installed wheel."""

import json
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Return the directory `configs` or `tasks`: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def read_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file below the shipped `configs`."""
    lines = (shipped("configs") / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]
