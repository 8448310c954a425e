"""Artifacts of strangers: what was changed since it was written is noticed, and no JSON ends in a traceback."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import artifact_for, linear_gate, llama, rule_for

from sa_lightning import SteeringArtifact
from sa_lightning.errors import ArtifactError
from sa_lightning.fitting import Surgery
from sa_lightning.surgery import Sources

SEED, MUTANTS = 7, 600
VALUES = [None, True, -1, 1e308, float("nan"), "x", "", [], {}, [[]], {"a": {}}, "\ud800", 10**400, [1, "a"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    gate = linear_gate({1: torch.randn(32)}, positive=["harmful", "wrapped"], negative_factor=0.0)
    rules = {"more": rule_for(llama(), intervention="match", strength=0.5, gate=gate)}
    artifact = artifact_for(llama(), gate=gate, rules=rules, template_arguments={"thinking": False}, template_tail="x")
    return artifact.save_pretrained(tmp_path_factory.mktemp("whole") / "artifact")


def copied(whole: Path, place: Path, config: object = None, tensors: dict | None = None) -> Path:
    place.mkdir()
    known = (whole / "sa_config.json").read_text() if config is None else config
    (place / "sa_config.json").write_text(known if isinstance(known, str) else json.dumps(known))
    save_file(load_file(whole / "steering.safetensors") if tensors is None else tensors, place / "steering.safetensors")
    return place


def mutated(config: object, draw: random.Random) -> object:
    """Change, drop or add one value, anywhere."""
    places = []

    def walk(value: object) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, found in items:
            places.append((value, key))
            walk(found)

    walk(config)
    holder, key = draw.choice(places)
    if draw.random() < 0.25:
        del holder[key]
    else:
        holder[key] = draw.choice(VALUES)
    return config


def test_mutated_settings_give_an_artifact_that_can_be_used_or_our_own_error(whole, tmp_path):
    draw, text = random.Random(SEED), (whole / "sa_config.json").read_text()
    refused = 0
    for number in range(MUTANTS):
        place = copied(whole, tmp_path / str(number), mutated(json.loads(text), draw))
        try:
            artifact = SteeringArtifact.from_pretrained(place)
        except ArtifactError:
            refused += 1
            continue
        artifact.digest()
        artifact.randomised(1)
        for rule in artifact.rules.values():
            rule.gate_of("original")
    assert MUTANTS / 3 < refused < MUTANTS


@pytest.mark.parametrize("text", ["", "42", "null", "[]", "{}", "[" * 5000, "{", "\x00", '{"format_version": true}'])
def test_what_is_no_object_is_refused(whole, tmp_path, text):
    with pytest.raises(ArtifactError):
        SteeringArtifact.from_pretrained(copied(whole, tmp_path / "a", text))


def test_bytes_that_are_no_text_are_refused(whole, tmp_path):
    place = copied(whole, tmp_path / "a")
    (place / "sa_config.json").write_bytes(
        (whole / "sa_config.json").read_bytes().replace(b"original", b"orig\xff\xfel", 1)
    )
    with pytest.raises(ArtifactError, match="no complete artifact"):
        SteeringArtifact.from_pretrained(place)


def test_a_flipped_bit_of_any_tensor_is_seen(whole, tmp_path):
    known = load_file(whole / "steering.safetensors")
    for number, name in enumerate(known):
        tensors = {key: tensor.clone() for key, tensor in known.items()}
        tensors[name].view(torch.int32).view(-1)[3] ^= 1
        with pytest.raises(ArtifactError, match=r"not those that its sa_config.json has the digests of"):
            SteeringArtifact.from_pretrained(copied(whole, tmp_path / str(number), tensors=tensors))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda name, tensor: 100 * tensor if name.endswith("direction") else tensor, "takes unit vectors"),
        (lambda name, tensor: 0 * tensor if name.endswith("direction") else tensor, "takes unit vectors"),
        (lambda name, tensor: float("nan") * tensor if name.endswith("gate") else tensor, "not finite"),
        (lambda name, tensor: tensor.long(), "of type torch.int64"),
        (lambda name, tensor: tensor.half(), "of type torch.float16"),
        (lambda name, tensor: tensor.bfloat16(), "of type torch.bfloat16"),
    ],
)
def test_tensors_of_an_older_format_that_no_fit_writes_are_refused(whole, tmp_path, change, fact):
    cases = Path(__file__).parents[1] / "cases" / "artifacts" / "main"
    tensors = {name: change(name, t) for name, t in load_file(cases / "steering.safetensors").items()}
    with pytest.raises(ArtifactError, match=fact):
        SteeringArtifact.from_pretrained(copied(cases, tmp_path / "a", tensors=tensors))


def test_a_setting_that_is_missing_is_not_guessed(whole, tmp_path):
    config = json.loads((whole / "sa_config.json").read_text())
    del config["strength"]
    with pytest.raises(ArtifactError, match="a rule has no 'strength'"):
        SteeringArtifact.from_pretrained(copied(whole, tmp_path / "a", config))


def test_a_surgery_takes_no_direction_of_an_artifact_that_was_changed(whole, tmp_path):
    tensors = {name: -tensor for name, tensor in load_file(whole / "steering.safetensors").items()}
    place = copied(whole, tmp_path / "a", tensors=tensors)
    with pytest.raises(ArtifactError, match=r"not those that its sa_config.json has the digests of"):
        Surgery(Sources(direction=str(place), direction_layer=1)).open(str(tmp_path))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.bool, torch.float64])
def test_tensors_of_another_type_are_seen_by_their_digests(whole, tmp_path, kind):
    tensors = {name: tensor.to(kind) for name, tensor in load_file(whole / "steering.safetensors").items()}
    with pytest.raises(ArtifactError, match=r"not those that its sa_config.json has the digests of"):
        SteeringArtifact.from_pretrained(copied(whole, tmp_path / "a", tensors=tensors))


def test_words_behind_a_prompt_are_numbers_of_tokens(whole, tmp_path):
    config = json.loads((whole / "sa_config.json").read_text())
    config["gate"]["ids"] = [{}]
    with pytest.raises(ArtifactError, match="where numbers of tokens belong"):
        SteeringArtifact.from_pretrained(copied(whole, tmp_path / "a", config))
