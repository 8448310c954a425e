"""Prompts of several kinds."""

import json

import pytest
import torch
from support.models import WORDS


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    """Harmful prompts have a window in them; borderline ones break a cake; two variants a group."""
    generator, rows = torch.Generator().manual_seed(0), []
    for kind, last in (
        ("harmful", "window"),
        ("harmless", "cake"),
        ("contrast", "break cake"),
        ("wrapped", "a window"),
    ):
        for number in range(24):
            picks = [WORDS[int(i)] for i in torch.randint(8, (4,), generator=generator)]
            rows.append({"prompt": " ".join([*picks, last]), "kind": kind, "group": f"{kind} {number // 2}"})
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path
