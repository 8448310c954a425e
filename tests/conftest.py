"""Fixtures of all rooms; shapes are checked in the mathematical ones."""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

from filelock import FileLock
from jaxtyping import install_import_hook

# Python floats may be given as ints, as everywhere: beartype wants to be told so.
install_import_hook(
    ["sa_lightning.surgery", "sa_lightning.steering"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

import pytest
import torch
from support.models import llama, perturbed, word_tokenizer

from sa_lightning.files import whole_directory

torch.set_num_threads(1)

collect_ignore_glob = ["*/conftest.py"]  # rooms have their own, which hold no doctests and are all called the same
LONG = (
    *("test_tiny_world.py", "test_real_chat.py", "test_unfinished.py", "test_sa.py", "test_sweep.py", "test_smol.py"),
    *("test_processes.py", "test_parts.py"),
)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `base`, `harm` and `other` (another shape), each with tokenizer and template."""
    root = tmp_path_factory.mktemp("checkpoints")
    for name, model in (
        ("base", llama()),
        ("harm", perturbed(llama(), seed=1)),
        ("other", llama(layers=2, width=16)),
    ):
        model.save_pretrained(root / name)
        word_tokenizer().save_pretrained(root / name)
    return root


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pairs of different lengths."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {
            "question": f"how do i {verb} a {noun}",
            "safe": "sorry , no . " * (1 + index % 3),
            "unsafe": "first " + f"{verb} a {noun} then " * (1 + index % 2) + ".",
        }
        for index, (verb, noun) in enumerate(
            [("bake", "cake"), ("break", "window"), ("break", "cake"), ("bake", "window")] * 2
        )
    ][:7]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this run that all its processes share: what one has built there, the others find."""
    own = tmp_path_factory.getbasetemp()
    place = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session")
def worlds(shared: Path) -> Path:
    """A cache of worlds, as `SA_CACHE_DIR` names one; a build locks the world it makes."""
    return shared / "cache"


@pytest.fixture(scope="session")
def smol_world(shared: Path) -> Path:
    """A directory with the data of a `smol` world of stand-ins. Do not write to it."""
    from support.smol_data import write_smol_world

    with FileLock(shared / "smol.lock"):
        if not (shared / "smol").exists():
            with whole_directory(shared / "smol") as partial:
                write_smol_world(partial)
    return shared / "smol"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: a process that comes to them last would keep the others waiting."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))
