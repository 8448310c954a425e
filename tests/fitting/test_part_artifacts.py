"""Parts in an artifact: what is kept, told apart and said of them."""

import json

import pytest
import torch
from support.models import artifact_for, llama

from sa_lightning import SteeringArtifact
from sa_lightning.errors import ArtifactError


def test_a_random_control_is_as_long_as_what_it_takes_the_place_of():
    model = llama()
    artifact = artifact_for(model)
    long = artifact_for(model, intervention="match", strength=1.0, extraction={"of_layer": 1})
    long.directions = {"original": {layer: 7 * vector for layer, vector in long.directions["original"].items()}}
    artifact.parts = {"long": long}
    drawn = artifact.randomised(3)
    for vector in drawn.parts["long"].directions["original"].values():
        assert float(vector.norm()) == pytest.approx(7, rel=1e-5)
        assert torch.allclose(vector, drawn.parts["long"].directions["original"][0])  # one for all layers
    assert float(drawn.directions["original"][0].norm()) == pytest.approx(1, rel=1e-5)
    artifact.strength, long.strength = 0.0, 0.0
    assert any("strength 0" in phrase for phrase in artifact.controls())
    assert not any(
        "strength 0" in phrase
        for phrase in artifact_for(model, strength=0.0, parts={"a": artifact_for(model)}).controls()
    )


def test_no_part_of_a_random_control_has_the_draw_of_another_or_of_another_seed():
    artifact = artifact_for(llama(), parts={"a": artifact_for(llama()), "b": artifact_for(llama())})
    draws = torch.stack(
        [
            part.directions["original"][layer]
            for seed in (1, 2, 3, 4)
            for part in artifact.randomised(seed).together.values()
            for layer in (0, 1)
        ]
    )
    assert float((draws @ draws.T - torch.eye(len(draws))).abs().max()) < 0.9


def test_artifacts_that_differ_in_one_number_of_a_part_or_a_gate_have_different_digests(tmp_path):
    def made(part=1.0, gate=1.0, strength=0.1):
        settings = {"kind": "linear", "others": 0.0, "ids": [], "sets": {"original": {"threshold": 0.0, "bias": 0.0}}}
        settings["sets"]["original"] |= {"held_out": 0, "auroc": 1.0, "found": [1, 1], "others": [0, 1]}
        held = {"gate": settings, "gates": {"original": {1: torch.full((32,), gate)}}}
        own = artifact_for(llama(), **held)
        own.directions["original"][0] = torch.full((32,), part)
        return artifact_for(llama(), strength=strength, parts={"own": own})

    digests = [made(**change).digest() for change in ({}, {"part": 1.1}, {"gate": 1.1}, {"strength": 0.2})]
    assert len(set(digests)) == 4
    assert SteeringArtifact.from_pretrained(made().save_pretrained(tmp_path / "artifact")).digest() == digests[0]


def test_an_artifact_says_where_its_directions_point():
    model = llama()
    assert "positive strength makes safer" in artifact_for(model).config()["sign"]
    asked = artifact_for(model, demonstrations={"role": "user"})
    assert "positive strength leads away from refusal" in asked.config()["sign"]
    part = artifact_for(model, extraction={"direction": "refusal"})
    signs = artifact_for(model, parts={"a": part}).config()["parts"]["a"]["sign"]
    assert "positive strength leads to refusal" in signs


def test_joined_gates_have_a_format_of_their_own_and_vectors_that_fit_their_record(tmp_path):
    one = {"threshold": 0.0, "bias": 0.0, "held_out": 0, "auroc": 1.0, "found": [1, 1], "others": [0, 1]}
    record = {**one, "joined": {"a": {**one, "layers": [1]}, "b": {**one, "layers": [1]}}}
    gate = {
        "kind": "linear",
        "finds": ["a", "b"],
        "against": ["c"],
        "join": "any",
        "ids": [],
        "sets": {"original": record},
    }
    held = {"gate": gate, "gates": {"original": {1: torch.ones(2, 32)}}}
    assert artifact_for(llama(), **held).config()["format_version"] == 3
    whole = artifact_for(llama(), parts={"own": artifact_for(llama(), **held)})
    assert whole.config()["format_version"] == 3
    assert SteeringArtifact.from_pretrained(whole.save_pretrained(tmp_path / "artifact")).digest() == whole.digest()
    for wrong in (torch.ones(32), torch.ones(3, 32), torch.ones(2, 16)):
        with pytest.raises(ArtifactError, match="The gate was fitted for"):
            artifact_for(llama(), gate=gate, gates={"original": {1: wrong}})
    alone = {**gate, "join": None, "sets": {"original": one}}
    with pytest.raises(ArtifactError, match="The gate was fitted for"):
        artifact_for(llama(), gate=alone, gates={"original": {1: torch.ones(2, 32)}})


def test_an_artifact_with_parts_says_that_older_versions_cannot_read_it(tmp_path):
    model = llama()
    for parts, version in (({}, 1), ({"a": artifact_for(model)}, 2)):
        path = artifact_for(model, parts=parts).save_pretrained(tmp_path / str(version))
        assert json.loads((path / "sa_config.json").read_text())["format_version"] == version
        assert sorted(SteeringArtifact.from_pretrained(path).parts) == sorted(parts)


def test_parts_of_other_weights_are_refused():
    model = llama()
    part = artifact_for(model)
    part.fingerprints = {"original": "another"}
    with pytest.raises(ArtifactError, match="was fitted on"):
        artifact_for(model, parts={"a": part})
