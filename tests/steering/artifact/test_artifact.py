import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import artifact_for, llama, perturbed

from sa_lightning import SteeringArtifact, steer
from sa_lightning.errors import ArtifactError
from sa_lightning.steering import Rule, weights_fingerprint


def test_an_artifact_read_back_steers_as_before(tmp_path):
    model = llama()
    artifact = artifact_for(model, strength=0.2, statistics={}, demonstrations={"pairs": 7})
    path = artifact.save_pretrained(tmp_path / "artifact", config="seed_everything: 0\n")
    assert sorted(file.name for file in path.iterdir()) == [
        "README.md",
        "config.yaml",
        "sa_config.json",
        "steering.safetensors",
    ]
    again = SteeringArtifact.from_pretrained(path)
    ids = torch.randint(6, 20, (2, 9))
    with steer(model, artifact):
        expected = model(ids).logits
    with steer(model, again):
        assert torch.equal(model(ids).logits, expected)
    assert again.config() == artifact.config()


def test_nothing_looks_like_an_artifact_after_a_failed_write(tmp_path, monkeypatch):
    monkeypatch.setattr("sa_lightning.steering.artifact.artifact.card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        artifact_for(llama()).save_pretrained(tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_the_set_of_directions_follows_the_weights():
    model, edited = llama(), perturbed(llama(), seed=3)
    artifact, other = artifact_for(model), artifact_for(edited)
    flipped = {layer: -direction for layer, direction in other.rules["pairs"].directions["original"].items()}
    artifact.rules["pairs"].directions["edited"] = flipped
    artifact.fingerprints["edited"] = weights_fingerprint(edited)
    ids = torch.randint(6, 20, (1, 9))
    with steer(edited, artifact):
        chosen = edited(ids).logits
    other.rules["pairs"].directions["original"] = flipped
    with steer(edited, other):
        assert torch.equal(edited(ids).logits, chosen)


def test_unknown_weights_are_refused_unless_allowed():
    model, other = llama(), perturbed(llama(), seed=3)
    artifact = artifact_for(model)
    with pytest.raises(ArtifactError, match="fitted on other weights") as error, steer(other, artifact):
        pass
    assert "allow_other_weights=True" in str(error.value)
    with steer(other, artifact, allow_other_weights=True):
        pass


def test_a_model_of_another_shape_is_refused_by_name_and_numbers():
    artifact = artifact_for(llama())
    with pytest.raises(ArtifactError) as error, steer(llama(layers=2, width=16), artifact, allow_other_weights=True):
        pass
    for fact in ("3 layers, d_model 32", "2 layers and d_model 16", "sa fit"):
        assert fact in str(error.value)
    assert not re.search(r"[.:][A-Z]", str(error.value))


@pytest.mark.parametrize("index", [0, 1, -1])
def test_every_single_entry_counts_in_the_fingerprint(index):
    model = llama()
    before = weights_fingerprint(model)
    weight = model.model.layers[1].mlp.up_proj.weight
    with torch.no_grad():
        weight.view(-1)[index] = torch.nextafter(weight.view(-1)[index], torch.tensor(9.0))
    assert weights_fingerprint(model) != before
    assert weights_fingerprint(llama()) == before
    assert weights_fingerprint(llama().bfloat16()) != before


def test_damaged_and_newer_artifacts_are_refused(tmp_path):
    path = artifact_for(llama()).save_pretrained(tmp_path / "artifact")
    config = json.loads((path / "sa_config.json").read_text())
    (path / "sa_config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(ArtifactError, match="format version 99"):
        SteeringArtifact.from_pretrained(path)
    (path / "sa_config.json").write_text(json.dumps(config))
    tensors = load_file(path / "steering.safetensors")
    save_file({"odd": tensors["original.layers.0.direction"]}, path / "steering.safetensors")
    with pytest.raises(ArtifactError, match=r"not those that its sa_config.json has the digests of"):
        SteeringArtifact.from_pretrained(path)
    (path / "steering.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(ArtifactError, match="holds no complete artifact"):
        SteeringArtifact.from_pretrained(path)
    with pytest.raises(ArtifactError, match="There is no artifact at"):
        SteeringArtifact.from_pretrained(tmp_path / "nowhere")


def test_the_output_of_a_fit_is_no_artifact_but_has_one(tmp_path):
    artifact_for(llama()).save_pretrained(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=f"Give {re.escape(str(tmp_path / 'artifact'))}"):
        SteeringArtifact.from_pretrained(tmp_path)


def test_directions_of_another_shape_or_not_finite_are_refused():
    artifact = artifact_for(llama())
    bad = {**artifact.rules["pairs"].directions["original"], 1: torch.full((32,), float("nan"))}
    with pytest.raises(ArtifactError, match="not finite"):
        SteeringArtifact(**{**vars(artifact), "rules": {"pairs": Rule({"original": bad})}})
    with pytest.raises(ArtifactError, match=r"shape \(31,\)"):
        SteeringArtifact(**{**vars(artifact), "rules": {"pairs": Rule({"original": {0: torch.ones(31)}})}})


def test_pushing_uploads_the_same_files(tmp_path, monkeypatch):
    uploaded = {}

    class Hub:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            return f"https://hub/{repo_id}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded[repo_id] = sorted(file.name for file in folder_path.iterdir())

    monkeypatch.setattr("sa_lightning.steering.artifact.artifact.HfApi", Hub)
    assert artifact_for(llama()).push_to_hub("me/safe") == "https://hub/me/safe"
    assert uploaded["me/safe"] == ["README.md", "config.yaml", "sa_config.json", "steering.safetensors"]


def test_saving_over_an_artifact_replaces_it_whole(tmp_path):
    first, second = artifact_for(llama(), strength=0.1), artifact_for(llama(), strength=0.2)
    first.save_pretrained(tmp_path / "artifact")
    second.save_pretrained(tmp_path / "artifact")
    assert SteeringArtifact.from_pretrained(tmp_path / "artifact").rules["pairs"].strength == 0.2
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_results_go_into_the_card_and_nowhere_else(tmp_path):
    artifact = artifact_for(llama())
    path = artifact.save_pretrained(tmp_path / "artifact")
    before = (path / "sa_config.json").read_bytes()
    artifact.write_card(path, "| arm | 7/9 |")
    assert "| arm | 7/9 |" in (path / "README.md").read_text()
    assert (path / "sa_config.json").read_bytes() == before
    assert len(list(path.iterdir())) == 4


@pytest.mark.parametrize("strength", ["much", None, {"a": 1.0}, {"0": 7.0}, 2.0])
def test_a_strength_that_cannot_be_applied_is_refused_when_the_artifact_is_read(tmp_path, strength):
    artifact_for(llama()).save_pretrained(tmp_path / "artifact")
    path = tmp_path / "artifact" / "sa_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "strength": strength}))
    with pytest.raises(ArtifactError, match=r"Fit (the artifact|it) again"):
        SteeringArtifact.from_pretrained(tmp_path / "artifact")


def test_an_artifact_of_the_first_format_is_read_and_its_card_written(tmp_path):
    artifact_for(llama()).save_pretrained(tmp_path / "artifact")
    path = tmp_path / "artifact" / "sa_config.json"
    config = json.loads(path.read_text())
    for key in ("blocks", "extraction"):
        del config[key]
    old = {"activation_norm": [1.0, 2.0, 3.0], "difference_norm": [0.5, 0.5, 0.5], "separation": [1.0, 0.9, 0.8]}
    path.write_text(json.dumps({**config, "format_version": 1, "statistics": {"original": old}}))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    artifact.write_card(tmp_path / "artifact", "none")
    assert "| pairs | original | 2 | 3 | 0.5 | 0.8 | – | 0.3 |" in (tmp_path / "artifact" / "README.md").read_text()


NORMS = {"original": {0: 2.0, 1: 3.0, 2: 4.0}}


def test_typical_norms_and_doses_come_back_and_steer_as_before(tmp_path):
    model = llama()
    settings = {"unit": "typical", "sinks": 8.0, "typical_norms": NORMS, "dose": {"original": {0: 0.1, 1: 0.2, 2: 0.3}}}
    artifact = artifact_for(model, strength={0: 0.1, 2: 0.2}, intervention="add", **settings)
    again = SteeringArtifact.from_pretrained(artifact.save_pretrained(tmp_path / "artifact"))
    assert again.rules["pairs"].typical_norms == NORMS
    assert again.config() == artifact.config()
    assert again.config()["format_version"] == 6
    assert again.config()["dose_in_all"] == {"original": pytest.approx(0.6)}
    assert "typical norm" in again.config()["strength_unit"]
    ids = torch.randint(6, 20, (2, 9))
    with steer(model, artifact):
        expected = model(ids).logits
    with steer(model, again):
        assert torch.equal(model(ids).logits, expected)


def test_a_step_in_typical_norms_is_one_of_fixed_length_that_leaves_sinks_alone():
    model, ids = llama(), torch.randint(6, 20, (2, 9))
    in_norms = artifact_for(model, strength=0.1, intervention="add", unit="typical", typical_norms=NORMS)
    lengths = {layer: 0.1 * norm for layer, norm in NORMS["original"].items()}
    fixed = artifact_for(model, strength=lengths, intervention="add_absolute")
    with steer(model, fixed):
        expected = model(ids).logits
    with steer(model, in_norms):
        assert torch.allclose(model(ids).logits, expected, atol=1e-5)
    tiny = {"original": dict.fromkeys(range(3), 1e-6)}
    alone = artifact_for(model, strength=0.3, intervention="ablate", sinks=8.0, typical_norms=tiny)
    before = model(ids).logits
    with steer(model, alone):  # every state is over 8e-6
        assert torch.equal(model(ids).logits, before)


def test_artifacts_of_before_mean_what_they_meant(tmp_path):
    path = artifact_for(llama(), strength=0.2).save_pretrained(tmp_path / "artifact")
    config = json.loads((path / "sa_config.json").read_text())
    for key in ("unit", "sinks", "typical_norms", "dose", "dose_in_all"):
        del config[key]
    (path / "sa_config.json").write_text(json.dumps({**config, "format_version": 1}))
    again = SteeringArtifact.from_pretrained(path)
    assert (again.rules["pairs"].unit, again.rules["pairs"].sinks) == ("state", None)


def test_artifacts_of_before_have_rules_and_the_words_of_today(tmp_path):
    """Written by the code before: parts without a main direction in format 3, a gate with a ramp in format 4."""
    cases = Path(__file__).parents[2] / "cases" / "artifacts"
    parts = SteeringArtifact.from_pretrained(cases / "parts")
    assert list(parts.rules) == ["spare", "join"]
    spare, join = parts.rules.values()
    assert spare.gate.settings.exempt == ("harmful", "wrapped")
    assert (spare.gate.settings.positive_factor, spare.gate.settings.negative_factor) == (1.0, 0.0)
    assert spare.gate.kinds["exempt"] == {"harmful": 24, "wrapped": 24}
    told = json.loads((cases / "parts" / "sa_config.json").read_text())["parts"]
    record, known = told["spare"]["gate"]["sets"]["original"], spare.gate.states["original"].record
    assert [*known.positive, *known.negative] == [*record["found"], *record["others"]]
    assert list(known.exempt.steered) == record["spares"]["steered"]
    assert list(known.exempt.exempted["negative"]) == record["spares"]["spared"]["others"]
    assert (known.numbers["bias"], known.exempt.bias) == (record["bias"], record["spares"]["bias"])
    assert list(join.gate.states["original"].record.joined) == ["harmful", "contrast"]
    assert join.only_prompt
    main = SteeringArtifact.from_pretrained(cases / "main")
    assert list(main.rules) == ["pairs"]
    assert main.rules["pairs"].gate.settings.ramp == 0.1
    tensors = load_file(cases / "main" / "steering.safetensors")
    assert main.tensors().keys() == tensors.keys()
    for artifact in (parts, main):
        again = SteeringArtifact.from_pretrained(artifact.save_pretrained(tmp_path / "artifact"))
        assert again.config()["format_version"] == 6
        assert again.digest() == artifact.digest()


@pytest.mark.parametrize(
    "settings",
    [
        {"unit": "typical"},
        {"sinks": 8.0},
        {"unit": "typical", "typical_norms": {"original": {0: 1.0, 1: 1.0}}},
        {"unit": "typical", "typical_norms": {"original": {0: 1.0, 1: 0.0, 2: 1.0}}},
        {"unit": "inches"},
        {"sinks": 0.5, "typical_norms": NORMS},
    ],
)
def test_norms_that_are_needed_and_missing_or_are_none_are_refused(settings):
    with pytest.raises(ArtifactError, match=r"typical norm"):
        artifact_for(llama(), intervention="add", **settings)
