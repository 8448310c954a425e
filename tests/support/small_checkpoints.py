"""Checkpoints from dictionaries of tensors, and tiny trained-looking models on disk."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sa_lightning.surgery import EditSettings, Sources, open_checkpoint, plan_from, write_edit

Write = Callable[..., Path]


def writer(root: Path) -> Write:
    """Something that writes tensors as a checkpoint under `root`, in one file or in several shards."""

    def write(name: str, tensors: dict[str, Tensor], shards: int = 1, **config: object) -> Path:
        path = root / name
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"tie_word_embeddings": False, **config}))
        if shards == 1:
            save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
            return path
        files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        placed = {name: files[i % shards] for i, name in enumerate(tensors)}
        for file in files:
            save_file({n: tensors[n] for n, f in placed.items() if f == file}, path / file)
        index = {"metadata": {}, "weight_map": placed}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
        return path

    return write


def small_tensors(seed: int, dtype: torch.dtype = torch.float32, move: float = 0.0) -> dict[str, Tensor]:
    """Two blocks, an embedding, a norm: the same for every seed, moved by `move` at random."""
    fixed, own = torch.Generator().manual_seed(99), torch.Generator().manual_seed(seed)
    shapes = {
        "model.embed_tokens.weight": (11, 6),
        "model.layers.0.mlp.weight": (6, 8),
        "model.layers.1.mlp.weight": (6, 8),
        "model.norm.weight": (6,),
    }
    return {
        name: (torch.randn(shape, generator=fixed) + move * torch.randn(shape, generator=own)).to(dtype)
        for name, shape in shapes.items()
    }


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    checkpoint = open_checkpoint(path)
    return {name: checkpoint.read(name) for name in checkpoint.names}


def edited(tmp_path: Path, sources: Sources, **settings: object) -> tuple[dict[str, Tensor], dict]:
    """The tensors of an edit that is written to `out`, and its record."""
    out = write_edit(plan_from(sources, EditSettings(**settings)), tmp_path / "out", overwrite=True)
    return read(out), json.loads((out / "surgery.json").read_text())


def says(error: pytest.ExceptionInfo[BaseException], *facts: str) -> None:
    """Assert that a message holds the facts and that no two sentences are glued together."""
    message = str(error.value)
    for fact in facts:
        assert fact in message, message
    assert not re.search(r"[.:,][A-Z]", message), message
    assert not re.search(r" {2}|[a-z]`[a-z]", message), message
