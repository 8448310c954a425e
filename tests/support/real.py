"""Real files, which the environment names."""

import os
from pathlib import Path

import pytest


def real(variable: str, *parts: str) -> Path:
    """Return a real file that the environment names, or skip the test, visibly."""
    root = os.environ.get(variable)
    if not root or not Path(root, *parts).exists():
        pytest.skip(f"{'/'.join(parts)} is not at hand: set {variable}")
    return Path(root, *parts)
