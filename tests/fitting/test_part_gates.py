"""The gates of parts: what they find, and that what is counted of them is what they do."""

import dataclasses
import json

import pytest
import torch
from support.models import ask, llama
from support.parts import fitted, logits

from sa_lightning import SteeringArtifact, steer
from sa_lightning.fitting.prompts import read_prompts
from sa_lightning.steering import (
    Anchors,
    GateSettings,
    PartSettings,
    Reading,
    fit_gate,
)
from sa_lightning.steering.gates.fitting import FittedGate, rebuilt


def test_cast_finds_the_layer_and_the_side_by_itself(checkpoints, prompts, tmp_path):
    gate = GateSettings("condition", recall=0.9, others=0.0, against=["harmless"], per_kind=24)
    artifact = fitted(
        checkpoints, prompts, tmp_path, direction="none", parts={"cast": PartSettings("refusal", gate=gate)}
    )
    part = artifact.parts["cast"]
    assert len(part.gates["original"]) == 1
    record = part.gate["sets"]["original"]
    assert record["sign"] in (-1.0, 1.0)
    assert record["layer_auroc"]["layers"] == [1, 2]  # of each that was looked at, not of the chosen one alone
    assert record["auroc"] > 0.5
    assert record["found"][0] >= 0.9 * record["found"][1]


@pytest.mark.parametrize("kind", ["condition", "linear"])
@pytest.mark.parametrize("join", ["any", "all"])
def test_conditions_of_several_kinds_are_joined_and_kept(checkpoints, prompts, tmp_path, kind, join):
    gate = GateSettings(
        kind,
        recall=0.9,
        others=0.0,
        finds=["harmful", "contrast"],
        against=["harmless"],
        per_kind=24,
        join=join,
        layers=[0, 1],
    )
    fitted(checkpoints, prompts, tmp_path, direction="none", parts={"cast": PartSettings("refusal", gate=gate)})
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    part = artifact.parts["cast"]
    record = part.gate["sets"]["original"]
    assert list(record["joined"]) == ["harmful", "contrast"]
    model, texts = llama(), [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()][::5]
    found, holds = [], {"any": any, "all": all}[join]
    for name, one in record["joined"].items():
        number = list(record["joined"]).index(name)
        vectors = {layer: part.gates["original"][layer][number] for layer in one["layers"]}
        alone, _ = rebuilt(dataclasses.replace(gate, join=None), FittedGate(vectors, one))
        found.append((alone, one["threshold"]))
        assert one["found"][0] >= 0.9 * one["found"][1]  # each by itself, on prompts of its kind

    def hold(text):
        states = torch.stack(model(torch.tensor([ask(text)]), output_hidden_states=True).hidden_states[1:3], 1)
        last = [states[:, :, -1], None, states.mean(2)]
        return holds(bool(one(Reading((0, 1), *last))[0] >= at) for one, at in found)

    asked = read_prompts(prompts)
    for side, kinds in (("found", ["harmful", "contrast"]), ("others", ["harmless"])):  # counted on what is held out
        held = [prompt.text for name in kinds for prompt in asked[name] if prompt.held]
        assert record[side] == [sum(map(hold, held)), len(held)]
    expected = [hold(text) for text in texts]
    assert 0 < sum(expected) < len(texts)
    plain = logits(model, texts)
    with steer(model, artifact):
        steered = logits(model, texts)
    assert [not torch.equal(steered[:, row], plain[:, row]) for row in range(len(texts))] == expected
    card = (tmp_path / "artifact" / "README.md").read_text()
    assert f"harmful {'or' if join == 'any' else 'and'} contrast" in card
    assert "that for contrast, from" in card


def test_what_is_counted_of_a_gate_that_spares_is_what_it_steers():
    generator = torch.Generator().manual_seed(0)
    held = torch.arange(40) % 2 == 1

    def near(x, y):
        return Anchors(torch.randn(40, 1, 4, generator=generator) + torch.tensor([x, y, 0.0, 0.0]), held)

    settings = GateSettings(
        "linear", finds=["contrast"], against=["harmless"], spares=["harmful"], recall=0.9, others=0.0
    )
    sides = near(3.0, 2.0), near(0.0, 0.0), near(3.0, 4.0)  # what is borderline is hardly told from what is harmful
    fitted = fit_gate(settings, [2], *sides)
    gate, policy = rebuilt(settings, fitted)
    steered = [int(policy.weights(gate(Reading((2,), side.end[held]))).sum()) for side in sides]
    assert fitted.record["found"] == [steered[0], 20]
    assert fitted.record["others"] == [steered[1], 20]
    assert fitted.record["spares"]["steered"] == [steered[2], 20]
    assert steered[0] < 18  # some are taken for harmful first
