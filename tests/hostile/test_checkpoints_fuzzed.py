"""Checkpoints and adapters of strangers: mutated anywhere, they are read as something sane or refused in words."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.small_checkpoints import small_tensors, writer

from sa_lightning.errors import SaError
from sa_lightning.surgery import EditSettings, Sources, open_checkpoint, plan_from

SEED, MUTANTS = 11, 40
VALUES = [None, True, -1, 0, 7, 2.5, 1e308, float("nan"), "x", "", "é" * 300, "../x", "\ud800", "\0", [], {}, [[]],
          {"a": {}}, [1, "a"], 10**400, 2**63, ["F32"], "I32", "F16", "(a+)+!"]  # fmt: skip
SETTINGS = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {}, "alpha_pattern": {"mlp": 3.0}}
MODULES = ("model.layers.0.mlp", "model.layers.1.mlp")


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    """A base in shards and its fine-tune, an adapter over the base, and one file beside them."""
    root = tmp_path_factory.mktemp("known")
    write = writer(root)
    for seed, name in enumerate(("base", "harm")):
        write(name, small_tensors(seed, move=0.1 * seed), shards=2, text_config={"num_attention_heads": 2})
    write("single", small_tensors(1, move=0.1))
    (root / "lora").mkdir()
    settings = {**SETTINGS, "base_model_name_or_path": str(root / "base")}
    (root / "lora" / "adapter_config.json").write_text(json.dumps(settings))
    save_file(factors(), root / "lora" / "adapter_model.safetensors")
    return root


def factors(rank: int = 2) -> dict[str, torch.Tensor]:
    shapes = {"A": (rank, 8), "B": (6, rank)}
    return {
        f"base_model.model.{module}.lora_{side}.weight": torch.ones(shape)
        for module in MODULES
        for side, shape in shapes.items()
    }


def mutated(value: object, draw: random.Random) -> object:
    """Change, drop or add a value anywhere in JSON; sometimes a name."""
    places = []

    def walk(found: object) -> None:
        items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
        for key, inner in items:
            places.append((found, key))
            walk(inner)

    walk(value)
    if not places or draw.random() < 0.05:
        return draw.choice(VALUES)
    holder, key = draw.choice(places)
    what = draw.random()
    if what < 0.15:
        del holder[key]
    elif what < 0.3 and isinstance(holder, dict):
        holder[str(draw.choice(VALUES))] = holder.pop(key)
    else:
        holder[key] = draw.choice(VALUES)
    return value


def in_header(change: Callable[[object], object]) -> Callable[[bytes], bytes]:
    """What is done to a header of safetensors, done to the whole file."""

    def changed(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.dumps(change(json.loads(content[8 : 8 + length]))).encode()
        return len(header).to_bytes(8, "little") + header + content[8 + length :]

    return changed


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, or the end cut off."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        found[draw.randrange(min(len(found), 700))] = draw.randrange(256)
    return bytes(found[: draw.randrange(len(found))] if draw.random() < 0.3 else found)


@pytest.mark.parametrize("name", ["harm", "single", "lora"])
def test_a_mutated_checkpoint_is_read_as_something_sane_or_refused_in_words(known, tmp_path, name):
    draw, messages = random.Random(SEED), []
    files = sorted(path.name for path in (known / name).iterdir())
    for number in range(MUTANTS):
        place = tmp_path / str(number)
        shutil.copytree(known / name, place)
        file = place / draw.choice(files)
        content = file.read_bytes()
        if draw.random() < 0.25:
            content = flipped(content, draw)
        elif file.suffix == ".json":
            content = json.dumps(mutated(json.loads(content), draw)).encode()
        else:
            content = in_header(lambda header: mutated(header, draw))(content)
        file.write_bytes(content)
        try:
            plan = plan_from(Sources(str(known / "base"), (str(place),)), EditSettings(density=0.5))
        except SaError as error:
            messages.append(str(error))
        else:
            for tensor in plan.target.names:
                assert plan.target.read(tensor).isfinite().all()
            open_checkpoint(place).fingerprint().encode()
    assert MUTANTS / 4 < len(messages) < MUTANTS
    assert all(line.strip() for message in messages for line in message.split("\n"))
