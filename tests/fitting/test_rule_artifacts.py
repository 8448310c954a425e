"""Several rules in an artifact: what is kept, told apart and said of them."""

import json

import pytest
import torch
from support.models import artifact_for, linear_gate, llama, rule_for

from sa_lightning import SteeringArtifact
from sa_lightning.errors import ArtifactError
from sa_lightning.steering import GateRecord
from sa_lightning.surgery import read_direction


def test_a_random_control_is_as_long_as_what_it_takes_the_place_of():
    model = llama()
    long = rule_for(model, intervention="match", strength=1.0, extraction={"of_layer": 1})
    long.directions = {"original": {layer: 7 * vector for layer, vector in long.directions["original"].items()}}
    artifact = artifact_for(model, rules={"long": long})
    drawn = artifact.randomised(3)
    for vector in drawn.rules["long"].directions["original"].values():
        assert float(vector.norm()) == pytest.approx(7, rel=1e-5)
        assert torch.allclose(vector, drawn.rules["long"].directions["original"][0])  # one for all layers
    assert float(drawn.rules["pairs"].directions["original"][0].norm()) == pytest.approx(1, rel=1e-5)
    artifact.rules["pairs"].strength, long.strength = 0.0, 0.0
    assert any("strength 0" in phrase for phrase in artifact.controls())
    acting = artifact_for(model, strength=0.0, rules={"a": rule_for(model)})
    assert not any("strength 0" in phrase for phrase in acting.controls())


def test_no_rule_of_a_random_control_has_the_draw_of_another_or_of_another_seed():
    artifact = artifact_for(llama(), rules={"a": rule_for(llama()), "b": rule_for(llama())})
    draws = torch.stack(
        [
            rule.directions["original"][layer]
            for seed in (1, 2, 3, 4)
            for rule in artifact.randomised(seed).rules.values()
            for layer in (0, 1)
        ]
    )
    assert float((draws @ draws.T - torch.eye(len(draws))).abs().max()) < 0.9


def test_artifacts_that_differ_in_one_number_of_a_rule_or_a_gate_have_different_digests(tmp_path):
    def made(rule=1.0, gate=1.0, strength=0.1):
        own = rule_for(llama(), gate=linear_gate({1: torch.full((32,), gate)}, negative_factor=0.0))
        own.directions["original"][0] = torch.nn.functional.normalize(torch.arange(32) + rule, dim=0)
        return artifact_for(llama(), strength=strength, rules={"own": own})

    digests = [made(**change).digest() for change in ({}, {"rule": 1.1}, {"gate": 1.1}, {"strength": 0.2})]
    assert len(set(digests)) == 4
    assert SteeringArtifact.from_pretrained(made().save_pretrained(tmp_path / "artifact")).digest() == digests[0]


def test_an_artifact_says_where_its_directions_point():
    model = llama()
    assert "positive strength makes safer" in artifact_for(model).config()["sign"]
    asked = artifact_for(model, demonstrations={"role": "user"})
    assert "positive strength leads away from refusal" in asked.config()["sign"]
    rule = rule_for(model, extraction={"direction": "refusal"})
    signs = artifact_for(model, rules={"a": rule}).config()["rules"]["a"]["sign"]
    assert "positive strength leads to refusal" in signs


def test_an_edit_finds_the_direction_of_the_only_rule(tmp_path):
    artifact = artifact_for(llama())
    artifact.rules = {"own": rule_for(llama(), gate=linear_gate({1: torch.ones(32)}))}
    path = artifact.save_pretrained(tmp_path / "artifact")
    assert torch.equal(read_direction(path, 1), artifact.rules["own"].directions["original"][1])


def test_a_card_has_no_table_of_states_without_a_row(tmp_path):
    rows = {"original": {"layers": [1], "activation_norm": [2.0], "difference_norm": [0.5], "separation": [1.0]}}
    for statistics, there in (({}, False), (rows, True)):
        artifact_for(llama(), statistics=statistics).save_pretrained(tmp_path / "artifact")
        card = (tmp_path / "artifact" / "README.md").read_text(encoding="utf-8")
        assert ("| rule | weights | layer |" in card) == there == ("| pairs | original | 1 | 2 |" in card)
        assert ("no rule was fitted on pairs" in card) != there


def test_joined_gates_are_kept_and_vectors_that_do_not_fit_their_record_are_refused(tmp_path):
    one = GateRecord(0.0, auroc=1.0, positive=(1, 1), negative=(0, 1), numbers={"bias": 0.0}, layers=[1])
    record = GateRecord(0.0, joined={"a": one, "b": one})
    settings = {"positive": ["a", "b"], "negative": ["c"]}
    gate = linear_gate({1: torch.ones(2, 32)}, record, join="any", **settings)
    for whole in (artifact_for(llama(), gate=gate), artifact_for(llama(), rules={"own": rule_for(llama(), gate=gate)})):
        again = SteeringArtifact.from_pretrained(whole.save_pretrained(tmp_path / "artifact"))
        assert again.digest() == whole.digest()
        assert [type(rule.gate_of("original")[0]).__name__ for rule in again.gated.values()] == ["JoinedGate"]
    for wrong in (torch.ones(32), torch.ones(3, 32), torch.ones(2, 16)):
        with pytest.raises(ArtifactError, match="The gate was fitted for"):
            artifact_for(llama(), gate=linear_gate({1: wrong}, record, join="any", **settings))
    with pytest.raises(ArtifactError, match="The gate was fitted for"):
        artifact_for(llama(), gate=linear_gate({1: torch.ones(2, 32)}, **settings))
    with pytest.raises(ArtifactError, match="called 'my rule'"):
        artifact_for(llama(), rules={"my rule": rule_for(llama())})


def test_a_gate_or_a_rule_that_could_be_taken_for_another_is_refused(tmp_path):
    gate = linear_gate({1: torch.ones(32)})
    path = artifact_for(llama(), gate=gate, rules={"own": rule_for(llama())}).save_pretrained(tmp_path / "artifact")
    config = json.loads((path / "sa_config.json").read_text())
    newer = {**config, "gate": {**config["gate"], "recall": 1.5}}
    (path / "sa_config.json").write_text(json.dumps(newer))
    with pytest.raises(ArtifactError, match=r"cannot make: .*but is 1.5.*\n.*\nUpgrade"):
        SteeringArtifact.from_pretrained(path)
    rules = config.pop("rules")
    (path / "sa_config.json").write_text(json.dumps({**config, "format_version": 5, "parts": {"pairs": rules["own"]}}))
    with pytest.raises(ArtifactError, match="a rule called `pairs` beside"):
        SteeringArtifact.from_pretrained(path)
