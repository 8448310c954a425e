"""A fit without a gradient: what it reads, and the directions that come of it."""

import json

import pytest
import torch
from support.fits import by_hand, fit, numbered
from support.models import llama, saved

from sa_lightning import SteeringArtifact
from sa_lightning.callbacks import PairStatesMetric
from sa_lightning.errors import DataError, SettingError
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import fit_directions, weights_fingerprint


def test_a_fit_finds_the_directions_that_one_finds_by_hand(checkpoints, demonstrations, tmp_path):
    fit(checkpoints / "base", demonstrations, tmp_path, numbered())
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    expected = fit_directions(*by_hand(llama(), demonstrations))
    for layer in range(3):
        assert torch.allclose(artifact.rules["pairs"].directions["original"][layer], expected[layer], atol=1e-5)
    assert artifact.demonstrations["pairs"] == 7
    assert artifact.fingerprints == {"original": weights_fingerprint(llama())}


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(checkpoints, demonstrations, tmp_path, batch_size):
    extraction = numbered(save=False)
    fit(checkpoints / "base", demonstrations, tmp_path, extraction, batch_size=batch_size)
    safe, unsafe = by_hand(llama(), demonstrations)
    assert torch.allclose(extraction.states.safe, safe, atol=1e-4)
    assert torch.allclose(extraction.states.unsafe, unsafe, atol=1e-4)


def test_the_lm_head_never_runs_during_a_fit(checkpoints, demonstrations, tmp_path, monkeypatch):
    module = CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    monkeypatch.setattr(module.network.lm_head, "forward", lambda *_: pytest.fail("the LM head ran"))
    fit(module, demonstrations, tmp_path, numbered(save=False))


def test_demonstrations_longer_than_the_context_are_cut_on_the_left_and_counted(checkpoints, demonstrations, tmp_path):
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(), max_length=8)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.demonstrations["truncated"] == 14


def test_nan_weights_are_refused_and_nothing_is_written(checkpoints, demonstrations, tmp_path):
    from sa_lightning.errors import SaError

    broken = llama()
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    saved(broken, tmp_path / "broken")
    with pytest.raises(SaError, match="not finite"):
        fit(tmp_path / "broken", demonstrations, tmp_path / "out", numbered())
    assert not (tmp_path / "out" / "artifact").exists()


def test_a_pair_that_was_not_read_is_an_error():
    metric = PairStatesMetric(2, 1, 4)
    metric.update(torch.ones(2, 1, 4), torch.tensor([0]), torch.tensor([True]))
    with pytest.raises(DataError, match="1 of 2 pairs were not read exactly once"):
        metric.compute()


def test_a_method_that_needs_all_states_is_refused_before_any_is_read(checkpoints, demonstrations, tmp_path):
    for method in ("probe", "whitened", "mean_plus_principal", "principal_concatenated"):
        with pytest.raises(SettingError, match=f"direction {method}` needs the states of all pairs"):
            fit(checkpoints / "base", demonstrations, tmp_path, numbered(method, keep_states=6))
    fit(checkpoints / "base", demonstrations, tmp_path, numbered("probe", keep_states=7))


def test_questions_alone_give_the_direction_from_harmful_to_harmless(checkpoints, tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [
        {"harmless": f"how do i bake a {noun}", "harmful": f"how do i break a {noun}"} for noun in ("cake", "window")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for position in ("last", "end_of_prompt", "end_of_instruction"):
        extraction = numbered(position=position, save=False)
        fit(checkpoints / "base", path, tmp_path, extraction)
        found[position] = extraction.states.safe
    assert torch.equal(found["last"], found["end_of_prompt"])
    assert not torch.allclose(found["last"], found["end_of_instruction"], atol=1e-2)
    with pytest.raises(DataError, match=r"questions.jsonl, row 1: .*no first token of a response"):
        fit(checkpoints / "base", path, tmp_path, numbered(position="first_response"))


def test_a_place_that_both_answers_share_is_refused(checkpoints, demonstrations, tmp_path):
    with pytest.raises(DataError, match="have the same states"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(position="end_of_prompt"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 0}, "`steering.tokens` must be at least 1"),
        ({"choose_layers": 0}, "`steering.choose_layers` must be at least 1"),
        ({"layers": []}, "`steering.layers` is empty"),
        ({"layers": [0], "strength": {1: 0.1}}, "A strength without a direction would be ignored"),
        ({"layers": [0, 1], "strength": {}}, "A strength without a direction would be ignored"),
        ({"choose_layers": 1, "strength": {1: 0.1}}, "Either the layers are chosen, or they are named"),
        ({"tokens": 4, "position": "first_response"}, "Several tokens are averaged at the end only"),
        ({"intervention": "ablate", "strength": 2.0}, "`ablate` takes a fraction of the component"),
        ({"strength": {0: 0.1, 1: 3.0}}, "of layer 1 is 3.0"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, message):
    with pytest.raises(SettingError, match=message):
        numbered(**settings)


def test_blocks_at_a_given_path_are_used_and_remembered(checkpoints, demonstrations, tmp_path):
    from sa_lightning import steer
    from sa_lightning.errors import ModelError

    module = CausalLMModule(str(checkpoints / "base"), blocks="layers")
    fit(module, demonstrations, tmp_path, numbered())
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.blocks == "layers"
    with steer(module.network, artifact):
        pass
    artifact.blocks = "model.wrong"
    with pytest.raises(ModelError, match=r"at `model.wrong`.*model.layers \(3\)"), steer(module.network, artifact):
        pass
