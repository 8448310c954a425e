"""Every format says what `steer` does, to 1e-5 of a logit, or is refused with why and the nearest that can."""

import json

import pytest
import torch
from support.models import artifact_for, linear_gate, llama, rule_for, saved

from sa_lightning.errors import ArtifactError, NothingToDoError, SettingError
from sa_lightning.export import FORMATS, Settings, export
from sa_lightning.export.exporting import record_of
from sa_lightning.export.readers import RULES, hooked

NORMS = {"original": {0: 14.0, 1: 20.0, 2: 31.0}}
#: Kind of act to an artifact that has it, and no other.
ACTS = {
    "step": {"intervention": "add_absolute", "strength": {1: -3.0, 2: 2.5}},
    "step_keep_norm": {
        "intervention": "add_keep_norm", "unit": "typical", "strength": {1: 0.15, 2: -0.1}, "typical_norms": NORMS,
    },
    "relative_step": {"intervention": "add", "strength": {1: 0.15, 2: -0.1}},
    "ablation": {"intervention": "ablate", "strength": 1.0},
    "coordinate": {"intervention": "clamp", "strength": {1: 1.5, 2: -0.5}},
    "relative_step_keep_norm": {"intervention": "add_keep_norm", "strength": 0.15},
    "adaptive_step": {"intervention": "add_keep_norm_adaptive", "strength": 0.1},
    "partial_ablation": {"intervention": "ablate", "strength": 0.5},
    "map": {"intervention": "add_mapped", "strength": 0.1},
}  # fmt: skip
SAID = [(to, kind) for to in FORMATS for kind in ACTS if kind in FORMATS[to].kinds]
UNSAID = [(to, kind) for to in FORMATS for kind in ACTS if kind not in FORMATS[to].kinds]


@pytest.fixture(scope="module")
def model():
    return llama()


@pytest.fixture(scope="module")
def on_disk(model, tmp_path_factory):
    return str(saved(model, tmp_path_factory.mktemp("export") / "model"))


def place(to, directory):
    return directory / f"steer{FORMATS[to].suffix}"


def exported(artifact, to, tmp_path, on_disk, **changes):
    """Export to a place, and return that with the record."""
    output = place(to, tmp_path)
    return output, export(artifact, output, Settings(to, model=on_disk, **changes))


@pytest.mark.parametrize(("to", "kind"), SAID)
def test_what_is_read_again_steers_as_our_hooks_do(model, on_disk, to, kind, tmp_path):
    output, record = exported(artifact_for(model, **ACTS[kind]), to, tmp_path, on_disk)
    assert record["check"]["difference"] < 1e-5 * max(1, record["check"]["effect"])
    assert record["check"]["effect"] > 0.1
    assert record["check"]["same_token"] == 1
    assert record["approximated"] == []
    assert json.loads(record_of(output, to).read_text()) == record
    assert record["files"]


@pytest.mark.parametrize("site", ["mlp", "attention"])
@pytest.mark.parametrize("to", [to for to in FORMATS if len(FORMATS[to].sites) > 1])
def test_sites_within_a_block_too(model, on_disk, site, to, tmp_path):
    artifact = artifact_for(model, site=site, **ACTS["step"])
    assert exported(artifact, to, tmp_path, on_disk)[1]["check"]["difference"] < 1e-5


@pytest.mark.parametrize("to", FORMATS)
def test_rules_that_are_steps_add_up(model, on_disk, to, tmp_path):
    spare = rule_for(model, seed=9, intervention="add_absolute", strength={1: 2.0, 2: 1.0})
    artifact = artifact_for(model, rules={"spare": spare}, **ACTS["step"])
    assert exported(artifact, to, tmp_path, on_disk)[1]["check"]["difference"] < 1e-5


@pytest.mark.parametrize(("to", "kind"), UNSAID)
def test_acts_that_a_format_has_no_words_for_are_refused(model, on_disk, to, kind, tmp_path):
    with pytest.raises(ArtifactError) as error:
        exported(artifact_for(model, **ACTS[kind]), to, tmp_path, on_disk)
    said = str(error.value)
    assert f"`--to {to}`" in said
    assert f"`{ACTS[kind]['intervention']}`" in said
    able = [f"`{name}`" for name in FORMATS if kind in FORMATS[name].kinds and FORMATS[name].first == 0]
    assert all(name in said for name in able)
    assert not any(tmp_path.iterdir())


GATE = linear_gate({1: torch.ones(32)}, positive_factor=1.0, negative_factor=0.0)
OTHERWISE = {
    "gate": ({"gate": GATE}, "the gate `linear`", "--steering.gate.kind always"),
    "sinks": ({"sinks": 8.0, "typical_norms": NORMS}, "states over 8 typical norms", "--steering.sinks null"),
    "only_prompt": ({"only_prompt": True}, "replies left alone", "--steering.only_prompt false"),
    "block 0": ({"strength": 1.0}, "block 0", "--steering.layers"),
    "site": ({"site": "mlp"}, "the mlp output", "--steering.site residual"),
}


@pytest.mark.parametrize("what", OTHERWISE)
@pytest.mark.parametrize("to", FORMATS)
def test_gates_sinks_places_and_times_are_said_or_refused(model, on_disk, to, what, tmp_path):
    changes, fact, remedy = OTHERWISE[what]
    able = {
        "only_prompt": FORMATS[to].prompt_alone,
        "block 0": not FORMATS[to].first,
        "site": "mlp" in FORMATS[to].sites,
    }
    artifact = artifact_for(model, **ACTS["step"] | changes)
    if able.get(what):
        assert exported(artifact, to, tmp_path, on_disk)[1]["check"]["difference"] < 1e-5
        return
    with pytest.raises(ArtifactError) as error:
        exported(artifact, to, tmp_path, on_disk)
    assert fact in str(error.value)
    assert remedy in str(error.value)


@pytest.mark.parametrize("to", FORMATS)
def test_what_comes_near_says_what_is_not_the_same_and_how_far_it_is_off(model, on_disk, to, tmp_path):
    artifact = artifact_for(
        model, intervention="add_keep_norm", unit="typical", strength=0.15, typical_norms=NORMS, sinks=8.0, gate=GATE
    )
    _, record = exported(artifact, to, tmp_path, on_disk, approximate=True)
    said = " ".join(record["approximated"])
    assert "the gate `linear`; instead, every prompt is steered" in said
    assert "8 typical norms left alone" in said
    assert ("behind block 0; instead, nothing there" in said) == (FORMATS[to].first == 1)
    assert record["check"]["difference"] > 1e-3  # it is not the artifact, and says so
    assert record["rates"] == "not measured on the export"


def test_an_approximate_step_is_as_long_as_at_a_state_of_typical_norm(model, on_disk, tmp_path):
    artifact = artifact_for(model, intervention="add_keep_norm", strength=0.15, typical_norms=NORMS)
    output, _ = exported(artifact, "safetensors", tmp_path, on_disk, approximate=True)
    stream = torch.zeros(1, 1, 32)
    for _, layer, change in RULES["safetensors"](output):
        expected = 0.15 * NORMS["original"][layer] * artifact.rules["pairs"].directions["original"][layer]
        assert torch.allclose(change(stream)[0, 0], expected)


def test_what_no_step_comes_near_to_is_refused_also_then(model, on_disk, tmp_path):
    with pytest.raises(ArtifactError, match="cannot express `add_mapped`"):
        exported(artifact_for(model, **ACTS["map"]), "gguf", tmp_path, on_disk, approximate=True)


def test_an_export_that_is_not_the_artifact_is_not_written(model, on_disk, tmp_path, monkeypatch):
    def shifted(path):
        return [(site, layer - 1, change) for site, layer, change in read(path)]

    read = RULES["gguf"]
    monkeypatch.setitem(RULES, "gguf", shifted)  # a reader that counts from 1
    with pytest.raises(ArtifactError, match="differs from steering by"):
        exported(artifact_for(model, **ACTS["step"]), "gguf", tmp_path, on_disk)
    assert not any(tmp_path.iterdir())


def test_a_control_vector_has_the_keys_that_llama_cpp_reads(model, on_disk, tmp_path):
    from gguf import GGUFReader

    output, _ = exported(artifact_for(model, **ACTS["step"]), "gguf", tmp_path, on_disk)
    found = GGUFReader(output)
    assert found.get_field("general.architecture").contents() == "controlvector"
    assert found.get_field("controlvector.model_hint").contents() == "llama"
    assert found.get_field("controlvector.layer_count").contents() == 2
    assert [(one.name, one.tensor_type.name, list(one.shape)) for one in found.tensors] == [
        ("direction.1", "F32", [32]),
        ("direction.2", "F32", [32]),
    ]


def test_other_weights_names_and_places_are_refused(model, on_disk, tmp_path):
    artifact = artifact_for(model, **ACTS["step"])
    with pytest.raises(SettingError, match=r"does not end in \.gguf"):
        export(artifact, tmp_path / "steer.bin", Settings("gguf", model=on_disk))
    (tmp_path / "there").mkdir()
    with pytest.raises(SettingError, match="exists already"):
        export(artifact, tmp_path / "there", Settings("hotwire", model=on_disk))
    with pytest.raises(ArtifactError, match="no directions for `edited`"):
        exported(artifact, "gguf", tmp_path, on_disk, weights="edited")
    with pytest.raises(NothingToDoError, match="would change nothing"):
        exported(artifact_for(model, strength=0.0, intervention="add_absolute"), "gguf", tmp_path, on_disk)
    artifact.fingerprints["original"] = "f"
    with pytest.raises(ArtifactError, match="other weights"):
        exported(artifact, "gguf", tmp_path, on_disk)
    assert exported(artifact, "gguf", tmp_path, on_disk, check=False)[1]["check"] is None


def test_hooks_of_the_readers_leave_the_model_as_it_was(model):
    ids = torch.tensor([[1, 6, 7, 8]])
    before = model(input_ids=ids).logits
    with hooked(model, [("residual", 1, lambda hidden: hidden + 1)]):
        assert not torch.equal(model(input_ids=ids).logits, before)
    assert torch.equal(model(input_ids=ids).logits, before)
