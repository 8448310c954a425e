"""`sa export`: lm-eval's own `steered` model replies as `steer` does, where its format can say what we do."""

import os
import subprocess
import sys

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.hf_steered import SteeredModel
from support.command import SA
from support.models import artifact_for, gpt2, llama, saved, word_tokenizer

from sa_lightning import steer
from sa_lightning.cli import main
from sa_lightning.errors import ArtifactError
from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from sa_lightning.export import Settings, export

DECODING = {"until": [], "do_sample": False, "max_gen_toks": 10}
PROMPTS = ["how do i bake a cake", "yes", "break a window then bake", "no , first a cake"]


@pytest.fixture(params=[llama, gpt2], ids=["llama", "gpt2"])
def on_disk(request, tmp_path):
    """A model on disk, with what it was before it was written."""
    model = request.param()
    return model, saved(model, tmp_path / "model")


NORMS = {"original": dict.fromkeys(range(4), 20.0)}


def write_steered(artifact, path, weights="original", *, model):
    """Export for lm-eval, whatever the weights."""
    export(artifact, path, Settings("lm_eval", weights, model, check=False))


def steered_hooks(artifact, weights="original", *, model, tmp_path):
    """The entries of the file by module."""
    path = tmp_path / f"{weights}{len(list(tmp_path.iterdir()))}.pt"
    write_steered(artifact, path, weights, model=model)
    return torch.load(path, weights_only=True)


def asked():
    replies = [Instance("generate_until", {}, (text, DECODING), 0, ("t", i, 1)) for i, text in enumerate(PROMPTS)]
    choices = [Instance("loglikelihood", {}, (text, " yes ."), 0, ("t", i, 1)) for i, text in enumerate(PROMPTS)]
    return replies, choices


@pytest.mark.parametrize("site", ["residual", "mlp", "attention"])
@pytest.mark.parametrize(
    ("intervention", "strength"),
    [("add_absolute", 3.0), ("add_absolute", {0: -4.0, 1: 2.5}), ("ablate", 1.0), ("clamp", 1.5), ("clamp", 0.0)],
)
def test_lm_evals_steered_replies_as_steer_does(on_disk, site, intervention, strength, tmp_path):
    model, directory = on_disk
    artifact = artifact_for(model, strength=strength, intervention=intervention, site=site)
    write_steered(artifact, tmp_path / "steer.pt", model=str(directory))
    theirs = SteeredModel(pretrained=str(directory), steer_path=str(tmp_path / "steer.pt"), device="cpu", batch_size=4)
    replies, choices = asked()
    bare = InMemoryLM(model, word_tokenizer())
    unsteered = bare.generate_until(replies), bare.loglikelihood(choices)
    with steer(model, artifact):
        lm = InMemoryLM(model, word_tokenizer())
        found = lm.generate_until(replies), lm.loglikelihood(choices)
    assert theirs.generate_until(replies, disable_tqdm=True) == found[0]
    likelihoods = torch.tensor(theirs.loglikelihood(choices, disable_tqdm=True), dtype=torch.float64)
    assert torch.allclose(likelihoods, torch.tensor(found[1], dtype=torch.float64), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(likelihoods, torch.tensor(unsteered[1], dtype=torch.float64), rtol=1e-3)


def test_a_step_in_typical_norms_is_one_of_fixed_length_there(on_disk, tmp_path):
    model, directory = on_disk
    artifact = artifact_for(model, strength=0.15, intervention="add", unit="typical", typical_norms=NORMS)
    same = artifact_for(model, strength=3.0, intervention="add_absolute")
    expected = steered_hooks(same, model=str(directory), tmp_path=tmp_path)
    found = steered_hooks(artifact, model=str(directory), tmp_path=tmp_path)
    for name, entry in found.items():
        assert entry["steering_coefficient"] == pytest.approx(expected[name]["steering_coefficient"])
        assert entry["action"] == "add"


def test_the_file_holds_tensors_numbers_and_text_only(on_disk, tmp_path):
    model, directory = on_disk
    artifact = artifact_for(model, strength={1: 2.0}, intervention="add_absolute")
    write_steered(artifact, tmp_path / "steer.pt", model=str(directory))
    (entry,) = torch.load(tmp_path / "steer.pt", weights_only=True).values()
    assert torch.equal(entry.pop("steering_vector"), artifact.rules["pairs"].directions["original"][1])
    assert entry == {"steering_coefficient": 2.0, "action": "add", "bias": None, "head_index": None}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "steer.pt", "steer.pt.export.json"]


def test_each_set_of_directions_can_be_had(on_disk, tmp_path):
    model, directory = on_disk
    artifact = artifact_for(model, strength=1.0, intervention="add_absolute")
    edited = {layer: -direction for layer, direction in artifact.rules["pairs"].directions["original"].items()}
    artifact.rules["pairs"].directions["edited"], artifact.fingerprints["edited"] = edited, "f"
    for name, sign in (("original", 1), ("edited", -1)):
        hooks = steered_hooks(artifact, name, model=str(directory), tmp_path=tmp_path)
        vectors = [entry["steering_vector"] for entry in hooks.values()]
        assert all(
            torch.equal(v, sign * d)
            for v, d in zip(vectors, artifact.rules["pairs"].directions["original"].values(), strict=1)
        )


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"intervention": "add_keep_norm", "strength": 0.1}, "cannot express `add_keep_norm`"),
        ({"intervention": "add", "strength": 0.1}, "fraction of the norm"),
        ({"intervention": "add_keep_norm_adaptive", "strength": 0.1}, "--steering.intervention add_absolute"),
        ({"intervention": "ablate", "strength": 1.0, "sinks": 8.0, "typical_norms": NORMS}, "--steering.sinks null"),
        ({"intervention": "ablate", "strength": 0.5}, "ablate all or nothing"),
        ({"intervention": "ablate", "strength": {0: 1.0, 1: 0.25}}, "0.25 (layer 1)"),
    ],
)
def test_what_the_format_cannot_express_is_refused_with_why(on_disk, changes, fact, tmp_path):
    model, directory = on_disk
    with pytest.raises(ArtifactError) as error:
        write_steered(artifact_for(model, **changes), tmp_path / "steer.pt", model=str(directory))
    assert fact in str(error.value)
    assert not (tmp_path / "steer.pt").exists()


def test_a_model_of_another_shape_is_refused(on_disk, tmp_path):
    model, _ = on_disk
    artifact = artifact_for(model, strength=1.0, intervention="add_absolute")
    llama(layers=2, width=16).save_pretrained(tmp_path / "small")
    with pytest.raises(ArtifactError, match="was fitted on test"):
        write_steered(artifact, tmp_path / "steer.pt", model=str(tmp_path / "small"))


def test_sa_export_writes_it_and_says_how_to_use_it(checkpoints, tmp_path, capsys, refused):
    artifact_for(llama(), strength=2.0, intervention="add_absolute").save_pretrained(tmp_path / "artifact")
    typed = ["export", "--artifact", str(tmp_path / "artifact"), "--to", "lm_eval"]
    typed += ["--model", str(checkpoints / "base"), "--output", str(tmp_path / "steer.pt")]
    main(typed)
    said = capsys.readouterr().out
    assert "--model steered --model_args pretrained=" in said
    assert "Loaded by lm_eval" in said
    assert "largest difference of a logit is" in said
    assert set(torch.load(tmp_path / "steer.pt", weights_only=True)) == {"layers.0", "layers.1", "layers.2"}
    assert "exists already" in refused(*typed)


def test_help_imports_nothing_heavy():
    done = subprocess.run([SA, "export", "--help"], capture_output=True, text=True, check=True, env={**os.environ})
    assert "--weights" in done.stdout
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sa_lightning", "export", "--help"],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    assert "lm_eval" not in loaded
    assert "lightning.pytorch" not in loaded
