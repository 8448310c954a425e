"""Names in a checkpoint are not paths: nothing outside of it is read or written."""

import json
from pathlib import Path

import pytest
from support.small_checkpoints import Write, small_tensors, writer

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery import EditSettings, Sources, open_checkpoint, plan_from, write_edit
from sa_lightning.surgery.edit.on_disk import check_output


@pytest.fixture
def two(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write: Write = writer(tmp_path / "models")
    for seed, name in enumerate(("base", "harm")):
        write(name, small_tensors(seed, move=0.1 * seed), shards=3)
    return tmp_path / "models"


def renamed(base: Path, name: object) -> None:
    """Let the index call its first shard otherwise; the file goes there if it can."""
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    old = sorted(set(index["weight_map"].values()))[0]
    index["weight_map"] = {key: name if file == old else file for key, file in index["weight_map"].items()}
    path.write_text(json.dumps(index))
    if isinstance(name, str) and name and "\0" not in name and len(name) < 200:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / old).rename(base / name)


@pytest.mark.parametrize(
    "name",
    ["../notes.safetensors", "sub/model.safetensors", "model-1.st", "shard", "journal.json", "surgery.json",
     "tokenizer.json",
     ".model.safetensors", "a" * 300 + ".safetensors", "..\\notes.safetensors", 7, None, ["x"], "", "a\n.safetensors"],
)  # fmt: skip
def test_a_shard_that_is_no_file_of_its_directory_is_refused(two, name):
    renamed(two / "base", name)
    before = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"names the shard .*, which is no safetensors file beside it"):
        open_checkpoint(two / "base")
    assert {path: path.read_bytes() for path in two.rglob("*") if path.is_file()} == before


def test_an_absolute_shard_is_refused(two, tmp_path):
    renamed(two / "base", str(tmp_path / "elsewhere.safetensors"))
    with pytest.raises(CheckpointError, match="no safetensors file beside it"):
        open_checkpoint(two / "base")


@pytest.mark.parametrize("link", ["vocab.txt", "additional_chat_templates", "additional_chat_templates/a.jinja"])
def test_a_link_that_leads_out_of_a_checkpoint_is_refused_and_nothing_is_left(two, tmp_path, link):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "id_rsa").write_text("mine")
    place = two / "base" / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(secret if link == "additional_chat_templates" else secret / "id_rsa")
    plan = plan_from(Sources(base=str(two / "base"), harm=(str(two / "harm"),)), EditSettings(density=1.0))
    with pytest.raises(CheckpointError, match=r"is a link to .*, outside of the checkpoint"):
        write_edit(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not any("mine" in path.read_text(errors="ignore") for path in tmp_path.glob(".out*/**/*") if path.is_file())


def test_links_within_a_checkpoint_and_into_the_blobs_of_a_snapshot_are_followed(two, tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in (two / "base").iterdir():
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / file.name)
    (blobs / "vocab").write_text("words")
    (snapshot / "vocab.txt").symlink_to(Path("..") / ".." / "blobs" / "vocab")
    plan = plan_from(Sources(base=str(snapshot), harm=(str(two / "harm"),)), EditSettings(density=1.0))
    out = write_edit(plan, tmp_path / "out")
    assert (out / "vocab.txt").read_text() == "words"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"config.json": "{}", "thesis.tex": "mine"}, "has no surgery.json"),
        ({"config.json": "{}"}, "has no surgery.json"),
        ({"surgery.json": "{}", "photo.svg": "mine"}, "holds photo.svg"),
        ({"surgery.json": "{}", "src/main.py": "mine"}, "holds src"),
    ],
)
def test_a_directory_with_files_of_ones_own_is_never_replaced(tmp_path, files, why):
    for name, text in files.items():
        (tmp_path / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "web" / name).write_text(text)
    with pytest.raises(CheckpointError, match=why):
        check_output(tmp_path / "web", [], overwrite=True)
    assert all((tmp_path / "web" / name).read_text() == text for name, text in files.items())
