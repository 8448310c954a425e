"""Parts fitted on prompts of several kinds, and at work together in one `steer`."""

import dataclasses
import json
import math

import torch
from support.command import sa
from support.models import ask, llama
from support.parts import REFUSE, SPARE, fitted, logits

from sa_lightning import SteeringArtifact, steer
from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.steering import (
    INTERVENTIONS,
    PartSettings,
    Reading,
)


def test_each_prompt_is_steered_by_its_own_part_or_left_as_it_is_bit_for_bit(checkpoints, prompts, tmp_path):
    both = fitted(checkpoints, prompts, tmp_path, direction="none", parts={"spare": SPARE, "refuse": REFUSE})
    assert sorted(both.parts) == ["refuse", "spare"]
    assert both.directions == {"original": {}}
    texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()][::7]
    model, weights = llama(), {}
    for name, part in both.parts.items():
        gate, policy = part.gate_of("original")
        for text in texts:
            with torch.no_grad():
                states = model(torch.tensor([ask(text)]), output_hidden_states=True).hidden_states
                end = torch.stack([states[1][:, -1], states[2][:, -1]], 1)
            weights.setdefault(text, {})[name] = float(policy.weights(gate(Reading((0, 1), end.float())))[0])
    plain = logits(model, texts)
    with steer(model, both):
        together = logits(model, texts)
    alone = {}
    for name in both.parts:
        one = SteeringArtifact.from_pretrained(tmp_path / "artifact")
        one.parts = {name: one.parts[name]}
        with steer(model, one):
            alone[name] = logits(model, texts)
    seen = set()
    for row, text in enumerate(texts):
        acting = [name for name, weight in weights[text].items() if weight]
        assert len(acting) <= 1  # who is taken for harmful is not spared
        seen |= {*acting} or {"nobody"}
        wanted = alone[acting[0]][:, row] if acting else plain[:, row]
        assert torch.equal(together[:, row], wanted)
        assert torch.equal(together[:, row], plain[:, row]) != bool(acting)
    assert seen == {"spare", "refuse", "nobody"}
    assert torch.equal(logits(model, texts), plain)


def test_a_part_without_a_gate_beside_one_with_a_gate_steers_whole_prompts(checkpoints, prompts, tmp_path):
    free = PartSettings("refusal", intervention="add", strength=0.2)
    both = fitted(checkpoints, prompts, tmp_path, direction="none", parts={"free": free, "spare": SPARE})
    model, text = llama(), "how do i bake a cake"
    alone = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    alone.parts = {"free": alone.parts["free"]}
    idle = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    idle.parts["spare"].gate["sets"]["original"]["threshold"] = math.inf
    with steer(model, alone):  # at every token, without a second pass
        wanted = logits(model, [text])
    with steer(model, idle):
        assert torch.allclose(logits(model, [text]), wanted, atol=1e-5)
    with steer(model, both):
        assert torch.isfinite(logits(model, [text])).all()


def test_a_part_may_act_where_the_prompt_ends_alone(checkpoints, prompts, tmp_path):
    """Against forwards over the whole text, in which one position of every layer is moved."""
    always = dataclasses.replace(SPARE.gate, threshold=-1e9, spares=())
    part = dataclasses.replace(SPARE, intervention="match", only_prompt=True, gate=always)
    artifact = fitted(checkpoints, prompts, tmp_path, direction="none", parts={"spare": part})
    assert artifact.parts["spare"].only_prompt
    model, text = llama(), "how do i break a cake"
    ids, directions = ask(text), artifact.parts["spare"].directions["original"]
    end, found = len(ids) - 1, []

    def moved(layer):
        def hook(_module, _args, output):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[:, end] = INTERVENTIONS["match"](hidden[:, end], directions[layer], 1.0)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return model.model.layers[layer].register_forward_hook(hook)

    handles = [moved(layer) for layer in directions]
    with torch.no_grad():
        for _ in range(3):
            found.append(model(torch.tensor([ids])).logits[0, -1])
            ids = [*ids, int(found[-1].argmax())]
    for handle in handles:
        handle.remove()
    with steer(model, artifact):
        assert torch.allclose(logits(model, [text])[:, 0], torch.stack(found), atol=1e-4)
    assert not torch.allclose(logits(model, [text])[:, 0], torch.stack(found), atol=1e-2)


def test_parts_go_with_directions_of_pairs_and_with_a_surgery(checkpoints, prompts, tmp_path):
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), density=0.5, scale=2.0, save_edited=False)
    artifact = fitted(
        checkpoints, prompts, tmp_path, surgery, epochs=2, direction="mean", position="end_of_prompt", strength=-0.1,
        parts={"spare": SPARE},
    )  # fmt: skip
    part = artifact.parts["spare"]
    assert sorted(artifact.directions) == sorted(part.directions) == sorted(part.gates) == ["edited", "original"]
    assert len(artifact.directions["edited"]) == 3
    assert not torch.equal(part.directions["edited"][1], part.directions["original"][1])
    assert part.gate["finds"] == ["contrast"]
    record = part.gate["sets"]["edited"]
    assert record["found"][1] == 12  # every second group of variants is held out
    spared = record["spares"]["spared"]
    for side, count in (("found", 12), ("others", 12)):  # what is drawn and ranked is what is steered
        scores = record["scores"][side]
        assert record[side] == [sum(score >= record["threshold"] for score in scores), count]
        assert len(scores) == count - spared[side][0]
    assert record["spares"]["found"][1] == 24
    assert part.gate["kinds"] == {
        "finds": {"contrast": 24},
        "against": {"harmless": 24},
        "spares": {"harmful": 24, "wrapped": 24},
    }
    assert [len(values) for values in record["layer_auroc"].values()] == [2, 2]
    drawn = artifact.randomised(3)
    assert not torch.equal(drawn.parts["spare"].directions["edited"][1], part.directions["edited"][1])
    assert drawn.parts["spare"].gates["edited"].keys() == part.gates["edited"].keys()


def test_each_part_keeps_to_its_tokens_whoever_acts_beside_it(checkpoints, prompts, tmp_path):
    """A part that steers whole prompts does not make another do so."""
    always = dataclasses.replace(SPARE.gate, threshold=-1e9, spares=())
    end = dataclasses.replace(SPARE, strength=0.5, only_prompt=True, gate=always)
    free = PartSettings("refusal", intervention="add", strength=0.2)
    both = fitted(checkpoints, prompts, tmp_path, direction="none", parts={"free": free, "end": end})
    model, ids = llama(), ask("how do i break a cake")
    seen = {name: part.directions["original"] for name, part in both.parts.items()}

    def moved(layer):
        def hook(_module, _args, output):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden = INTERVENTIONS["add"](hidden, seen["free"][layer], 0.2)
            hidden[:, -1] = INTERVENTIONS["ablate"](hidden[:, -1], seen["end"][layer], 0.5)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return model.model.layers[layer].register_forward_hook(hook)

    handles = [moved(layer) for layer in range(3)]
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0, -1]
    for handle in handles:
        handle.remove()
    with steer(model, both):
        assert torch.allclose(logits(model, ["how do i break a cake"])[0, 0], wanted, atol=1e-4)


def test_two_processes_fit_the_parts_and_gates_of_one(checkpoints, prompts, tmp_path):
    gate = "{kind: linear, finds: [contrast], against: [harmless], spares: [harmful], recall: 0.8, others: 0.0}"
    parts = f"{{spare: {{direction: false_refusal, gate: {gate}}}, refuse: {{direction: refusal}}}}"
    (tmp_path / "parts.yaml").write_text(f"steering:\n  direction: none\n  parts: {parts}\n")
    found = []
    for devices in ("1", "2"):
        done = sa(
            *("fit", "--config", tmp_path / "parts.yaml"),
            *("--model.target", checkpoints / "base", "--data.demonstrations", prompts),
            *("--trainer.accelerator", "cpu", "--trainer.devices", devices, "--output", tmp_path / devices),
        )
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / devices / "fit.json").read_text())["processes"] == int(devices)
        found.append(SteeringArtifact.from_pretrained(tmp_path / devices / "artifact"))
    one, two = found
    assert one.parts["spare"].gate["sets"] == two.parts["spare"].gate["sets"]
    tensors = one.tensors(), two.tensors()
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
