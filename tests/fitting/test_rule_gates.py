"""The gates of rules: what they find, and that what is counted of them is what they do."""

import dataclasses
import json

import pytest
import torch
from support.fits import fitted
from support.models import ask, llama
from support.rules import logits

from sa_lightning import SteeringArtifact, steer
from sa_lightning.fitting.prompts import read_prompts
from sa_lightning.steering import Anchors, FittedGate, GateSettings, GateState, Reading, RuleSettings, fit_gate


def test_cast_finds_the_layer_and_the_side_by_itself(checkpoints, prompts, tmp_path):
    gate = GateSettings("condition", recall=0.9, negative_factor=0.0, negative=["harmless"], per_kind=24)
    artifact = fitted(checkpoints / "base", prompts, tmp_path, rules={"cast": RuleSettings("refusal", gate=gate)})
    vectors, record = artifact.rules["cast"].gate.states["original"]
    assert len(vectors) == 1
    assert record.numbers["sign"] in (-1.0, 1.0)
    assert record.layer_auroc["layers"] == [1, 2]  # of each that was looked at, not of the chosen one alone
    assert record.auroc > 0.5
    assert record.positive[0] >= 0.9 * record.positive[1]


@pytest.mark.parametrize("kind", ["condition", "linear"])
@pytest.mark.parametrize("join", ["any", "all"])
def test_conditions_of_several_kinds_are_joined_and_kept(checkpoints, prompts, tmp_path, kind, join):
    gate = GateSettings(
        kind,
        recall=0.9,
        negative_factor=0.0,
        positive=["harmful", "contrast"],
        negative=["harmless"],
        per_kind=24,
        join=join,
        layers=[0, 1],
    )
    fitted(checkpoints / "base", prompts, tmp_path, rules={"cast": RuleSettings("refusal", gate=gate)})
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    state = artifact.rules["cast"].gate.states["original"]
    record = state.record
    assert list(record.joined) == ["harmful", "contrast"]
    model, texts = llama(), [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()][::5]
    found, holds = [], {"any": any, "all": all}[join]
    for number, one in enumerate(record.joined.values()):
        vectors = {layer: state.vectors[layer][number] for layer in one.layers}
        alone = GateState(vectors, one).gate(dataclasses.replace(gate, join=None))
        found.append((alone, one.threshold))
        assert one.positive[0] >= 0.9 * one.positive[1]  # each by itself, on prompts of its kind

    def hold(text):
        states = torch.stack(model(torch.tensor([ask(text)]), output_hidden_states=True).hidden_states[1:3], 1)
        last = [states[:, :, -1], None, states.mean(2)]
        return holds(bool(one(Reading((0, 1), *last))[0] >= at) for one, at in found)

    asked = read_prompts(prompts)
    for side, kinds in (
        ("positive", ["harmful", "contrast"]),
        ("negative", ["harmless"]),
    ):  # counted on what is held out
        held = [prompt.text for name in kinds for prompt in asked[name] if prompt.held]
        assert getattr(record, side) == (sum(map(hold, held)), len(held))
    expected = [hold(text) for text in texts]
    assert 0 < sum(expected) < len(texts)
    plain = logits(model, texts)
    with steer(model, artifact):
        steered = logits(model, texts)
    assert [not torch.equal(steered[:, row], plain[:, row]) for row in range(len(texts))] == expected
    card = (tmp_path / "artifact" / "README.md").read_text()
    assert f"harmful {'or' if join == 'any' else 'and'} contrast" in card
    assert "that for contrast, from" in card


def test_what_is_counted_of_a_gate_that_exempts_is_what_it_steers():
    generator = torch.Generator().manual_seed(0)
    held = torch.arange(40) % 2 == 1

    def near(x, y):
        return Anchors(torch.randn(40, 1, 4, generator=generator) + torch.tensor([x, y, 0.0, 0.0]), held)

    settings = GateSettings(
        "linear", positive=["contrast"], negative=["harmless"], exempt=["harmful"], recall=0.9, negative_factor=0.0
    )
    sides = near(3.0, 2.0), near(0.0, 0.0), near(3.0, 4.0)  # what is borderline is hardly told from what is harmful
    state = fit_gate(settings, [2], *sides)
    gate, policy = FittedGate(settings, {"original": state}).of("original")
    steered = [int(policy.weights(gate(Reading((2,), side.end[held]))).sum()) for side in sides]
    assert state.record.positive == (steered[0], 20)
    assert state.record.negative == (steered[1], 20)
    assert state.record.exempt.steered == (steered[2], 20)
    assert steered[0] < 18  # some are taken for harmful first
