"""Small checkpoints."""

from pathlib import Path

import pytest
from support.small_checkpoints import Write, writer


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)
