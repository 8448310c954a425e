"""An artifact may be a stranger's: its surgery writes nothing, downloads nothing, and reads no file of ours."""

import json
from pathlib import Path

import pytest
from support.models import artifact_for, llama, perturbed, saved

from sa_lightning.errors import ArtifactError, CheckpointError, CheckpointMismatchError, SaError
from sa_lightning.fitting import Surgery
from sa_lightning.models import load_model, load_tokenizer
from sa_lightning.surgery import EditSettings, Sources

ROWS = [{"prompt": "how do i bake a cake", "response": "first bake a cake ."}] * 2


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, dict]:
    """A base, its fine-tune, prompts, and the record of a surgery with scores of them."""
    root = tmp_path_factory.mktemp("models")
    saved(llama(), root / "base")
    saved(perturbed(llama(), 1), root / "harm")
    (root / "prompts.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    sources = Sources(harm=str(root / "harm"), prompts=str(root / "prompts.jsonl"), scores=str(root / "scores"))
    surgery = Surgery(sources, EditSettings(density=0.05, select="snip"))
    redone(surgery, root)
    assert (root / "scores" / "model.safetensors").exists()  # a person has said where
    return root, json.loads(json.dumps(surgery.record()))


def redone(surgery: Surgery, root: Path) -> dict:
    model = load_model(str(root / "base"))
    surgery.open(str(root / "base"))
    surgery.apply(model, load_tokenizer(str(root / "base")))
    return json.loads(json.dumps(surgery.record()))


def everything(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_ones_own_surgery_is_redone_without_a_word(fitted):
    root, record = fitted
    assert redone(Surgery.from_record(record), root) == record


def test_scores_are_never_written_where_a_record_says(fitted, tmp_path):
    root, record = fitted
    before = everything(root)
    place = tmp_path / "elsewhere"
    for trust in (False, True):
        given = {**record, "sources": {**record["sources"], "scores": str(place)}}
        assert redone(Surgery.from_record(given, trust), root)["k"] == record["k"]
    assert not place.exists()
    assert everything(root) == before


def test_prompts_of_a_record_are_read_only_if_they_are_the_file_of_the_fit(fitted, tmp_path):
    root, record = fitted
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps(ROWS[0]))
    other = {**record, "sources": {"prompts": str(mine)}}
    with pytest.raises(ArtifactError, match=r"mine\.jsonl', which is not the file of the fit, by its SHA-256"):
        redone(Surgery.from_record(other), root)
    assert redone(Surgery.from_record(other, trust=True), root)["k"] == record["k"]
    older = {name: value for name, value in record.items() if name != "files"}
    with pytest.raises(ArtifactError, match="trust_record true"):
        redone(Surgery.from_record(older), root)


@pytest.mark.parametrize("role", ["harm", "base", "adapter"])
def test_a_record_downloads_nothing_without_a_word(fitted, tmp_path, monkeypatch, role):
    root, record = fitted
    asked = []

    def download(source, **options):
        asked.append((source, options["local_files_only"]))
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    given = {**record, role: "someone/something"}
    if role == "adapter":
        config = {"peft_type": "LORA", "base_model_name_or_path": "someone/something"}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        (tmp_path / "adapter_model.safetensors").write_bytes(b"")
        given = {**record, "harm": str(tmp_path)}
    surgery = Surgery.from_record(given)
    if role != "adapter":
        assert f"{role} 'someone/something' (not here)" in surgery.reads()
    with pytest.raises(CheckpointError, match="what a record names is not fetched unasked"):
        surgery.open(str(root / "base"))
    with pytest.raises(CheckpointError, match="the Hugging Face Hub did not give it"):
        Surgery.from_record(given, trust=True).open(str(root / "base"))
    assert asked == [("someone/something", True), ("someone/something", False)]


def test_what_the_person_names_is_downloaded_as_ever(fitted, monkeypatch):
    root, record = fitted
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda source, **options: str(root / source.split("/")[1]))
    surgery = Surgery.from_record({**record, "base": "someone/base"})
    surgery.open("someone/base")
    assert surgery.opened["someone/base"].path == root / "base"


@pytest.mark.parametrize(
    "change",
    [
        {"base": 7},
        {"harm": {"a": 1}},
        {"sources": {"prompts": 3}},
        {"sources": {"unknown": "x"}},
        {"sources": []},
        {"settings": None},
        {"settings": {}},
        {"inputs": [1]},
        {"inputs": {"harm": {}}},
        {"inputs": {"nobody": {"fingerprint": "x"}}},
        {"files": {"a": 1}},
    ],
)
def test_a_record_of_another_shape_is_refused_in_words(fitted, change):
    root, record = fitted
    with pytest.raises((ArtifactError, CheckpointMismatchError)):
        redone(Surgery.from_record({**record, **change}), root)


@pytest.mark.parametrize("value", [None, True, -1, "x", [], {}, float("nan"), [[1]], {"a": {}}, 10**400])
def test_no_setting_of_a_record_ends_in_a_traceback(fitted, value):
    root, record = fitted
    for name in record["settings"]:
        try:
            redone(Surgery.from_record({**record, "settings": {**record["settings"], name: value}}), root)
        except SaError as error:
            str(error).encode()


def test_an_artifact_says_what_its_surgery_reads(fitted):
    root, record = fitted
    artifact = artifact_for(llama(), surgery=record)
    said = Surgery.from_record(artifact.surgery).reads()
    assert all(repr(str(root / name)) in said for name in ("base", "harm", "prompts.jsonl", "scores"))
    assert "not here" not in said
