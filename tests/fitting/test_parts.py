"""Parts fitted on prompts of several kinds, kept in one artifact, and at work together in one `steer`."""

import csv
import dataclasses
import gzip
import json
import math

import pytest
import torch
from conftest import WORDS, artifact_for, ask, llama, numbered
from lightning.pytorch import Trainer
from support.command import sa

from sa_lightning import SteeringArtifact, steer
from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import ArtifactError, DataError, SettingError
from sa_lightning.fitting.prompts import read_prompts
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import (
    INTERVENTIONS,
    Anchors,
    GateSettings,
    PartSettings,
    Reading,
    fit_gate,
    fit_part,
    read_demonstrations,
)
from sa_lightning.steering.gates.fitting import FittedGate, rebuilt


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """Harmful prompts have a window in them; borderline ones break a cake; two variants a group."""
    generator, rows = torch.Generator().manual_seed(0), []
    for kind, last in (
        ("harmful", "window"),
        ("harmless", "cake"),
        ("contrast", "break cake"),
        ("wrapped", "a window"),
    ):
        for number in range(24):
            picks = [WORDS[int(i)] for i in torch.randint(8, (4,), generator=generator)]
            rows.append({"prompt": " ".join([*picks, last]), "kind": kind, "group": f"{kind} {number // 2}"})
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def fitted(checkpoints, prompts, output, *callbacks, epochs=1, **steering):
    callback = numbered(**steering)
    trainer = Trainer(
        **TRAINER_DEFAULTS, max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, default_root_dir=output,
        callbacks=[*callbacks, callback],
    )  # fmt: skip
    trainer.fit(CausalLMModule(str(checkpoints / "base")), datamodule=DemonstrationDataModule(str(prompts)))
    return SteeringArtifact.from_pretrained(output / "artifact")


def logits(model, texts):
    """First and following logits of a batch, padded on the left."""
    rows = [ask(text) for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return torch.stack(
        model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0,
            return_dict_in_generate=True, output_logits=True,
        ).logits
    )  # fmt: skip


SPARE = PartSettings(
    "false_refusal",
    gate=GateSettings("linear", finds=["contrast"], against=["harmless"], spares=["harmful", "wrapped"], recall=0.8,
                      layers=[0, 1], others=0.0),
)  # fmt: skip
REFUSE = PartSettings(
    "refusal", intervention="add", strength=0.3, gate=GateSettings("linear", recall=0.8, layers=[0, 1], others=0.0)
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


def test_directions_are_mean_differences_and_what_is_left_of_them(checkpoints, prompts, tmp_path):
    parts = {
        "refuse": PartSettings("refusal", per_kind=24),
        "false": PartSettings("false_refusal", per_kind=24, layers=[0, 2]),
        "half": PartSettings("false_refusal", per_kind=24, orthogonal=0.5, of_layer=1),
        "map": PartSettings("null_space", per_kind=24, free=0.5, strength=0.2),
    }
    artifact = fitted(checkpoints, prompts, tmp_path, direction="none", parts=parts)
    model, states = llama(), {}
    for line in prompts.read_text().splitlines():
        row = json.loads(line)
        with torch.no_grad():
            found = model(torch.tensor([ask(row["prompt"])]), output_hidden_states=True).hidden_states
        states.setdefault(row["kind"], []).append(torch.stack([found[layer + 1][0, -1] for layer in range(2)]).double())
    mean = {kind: torch.stack(rows).mean(0) for kind, rows in states.items()}
    r = torch.stack(states["harmful"] + states["wrapped"]).mean(0) - mean["harmless"]
    w = mean["contrast"] - mean["harmless"]
    for layer in (0, 1):
        known = torch.nn.functional.normalize(r[layer], dim=0)
        assert torch.allclose(artifact.parts["refuse"].directions["original"][layer].double(), known, atol=1e-5)
        left = w[layer] - (w[layer] @ known) * known
        if layer == 0:
            got = artifact.parts["false"].directions["original"][0].double()
            assert torch.allclose(got, left / left.norm(), atol=1e-4)
            assert abs(float(got @ known)) < 1e-5
        else:
            half = w[1] - 0.5 * (w[1] @ known) * known
            for other in artifact.parts["half"].directions["original"].values():
                assert torch.allclose(other.double(), half / half.norm(), atol=1e-4)
    assert sorted(artifact.parts["false"].directions["original"]) == [0, 2]
    assert artifact.parts["map"].directions["original"][1].shape == (32, 32)
    with steer(model, artifact):
        pass
    card = (tmp_path / "artifact" / "README.md").read_text()
    assert "Part `map`" in card
    assert "`add_mapped` with strength 0.2 (factor of the mapped state); a dose of" in card
    assert "on original weights, at every prompt" in card


def test_match_leads_to_where_the_mean_harmless_prompt_lies():
    generator = torch.Generator().manual_seed(0)
    states = {kind: torch.randn(9, 2, 8, generator=generator) for kind in ("harmful", "harmless", "borderline")}
    for name in ("refusal", "false_refusal"):
        unit = fit_part(PartSettings(name, intervention="ablate"), states, 2)
        found = fit_part(PartSettings(name, intervention="match"), states, 2)
        for layer in (0, 1):
            wanted = float(states["harmless"].mean(0)[layer] @ unit[layer])
            assert float(found[layer] @ unit[layer]) == pytest.approx(wanted, abs=1e-5)
            x = torch.randn(4, 3, 8, generator=generator)
            moved = INTERVENTIONS["match"](x, found[layer], 1.0)
            assert torch.allclose(moved @ unit[layer], torch.full((4, 3), wanted), atol=1e-5)
            rest = torch.eye(8) - unit[layer][:, None] * unit[layer]
            assert torch.allclose(moved @ rest, x @ rest, atol=1e-5)  # nothing else changes
            half = INTERVENTIONS["match"](x, found[layer], 0.5)
            assert torch.allclose(half, (x + moved) / 2, atol=1e-5)
            assert torch.allclose(INTERVENTIONS["match"](moved, found[layer], 1.0), moved, atol=1e-5)  # twice is once
            assert torch.equal(INTERVENTIONS["match"](x, found[layer], 0.0), x)


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


def test_a_file_with_kinds_gives_pairs_of_questions(prompts, tmp_path):
    pairs, skipped = read_demonstrations(prompts)
    assert (len(pairs), skipped, pairs[0].role) == (24, 0, "user")
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    assert pairs[1].safe == [row["prompt"] for row in rows if row["kind"] == "harmless"][1]
    assert pairs[1].unsafe == [row["prompt"] for row in rows if row["kind"] == "harmful"][1]
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(DataError, match=r"prompts of the kinds harmful \(1\)"):
        read_demonstrations(tmp_path / "one.jsonl")


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


def test_a_strength_for_parts_alone_is_refused(checkpoints, prompts, tmp_path):
    artifact = fitted(checkpoints, prompts, tmp_path, direction="none", parts={"refuse": REFUSE})
    with pytest.raises(SettingError, match="parts alone: refuse"), steer(llama(), artifact, strength=0.5):
        pass
    told = artifact.parts["refuse"]
    assert told.extraction["prompts"] == told.gate["prompts"] == "prompts.jsonl"
    assert told.extraction["prompts_sha256"] == told.gate["prompts_sha256"]


@pytest.mark.parametrize("suffix", ["json", "csv", "jsonl.gz"])
def test_prompts_come_in_the_formats_of_demonstrations(tmp_path, suffix):
    rows = [
        {"prompt": f"line\u2028{kind} {i}", "kind": kind, "group": 0}
        for kind in ("harmful", "harmless")
        for i in (0, 1)
    ]
    path = tmp_path / f"prompts.{suffix}"
    if suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_bytes(gzip.compress("\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()))
    found = read_prompts(path)
    assert [prompt.text for prompt in found["harmful"]] == [row["prompt"] for row in rows[:2]]
    assert [prompt.held for prompt in found["harmful"]] == [False, False]  # the group 0 is one, too


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"parts": {}}, "Only `parts` act then"),
        ({"parts": {"a": REFUSE}, "site": "mlp"}, r"`steering.site` is set"),
        ({"parts": {"my part": REFUSE}}, "called 'my part'"),
        ({"parts": {"a": REFUSE}, "control": "shuffled"}, "Take `random`"),
        (
            {"parts": {w: PartSettings(gate=GateSettings("transition", append=w)) for w in ("yes", "no")}},
            "the same `append`",
        ),
        ({"parts": {"a": PartSettings("refusal", layers=[9])}}, "has 3 layers"),
        ({"parts": {"a": PartSettings("refusal", of_layer=3)}}, "`steering.parts.a.of_layer` has [3]"),
    ],
)
def test_parts_that_cannot_be_fitted_are_refused(checkpoints, prompts, tmp_path, settings, fact):
    with pytest.raises(SettingError) as error:
        fitted(checkpoints, prompts, tmp_path, direction="none", **settings)
    assert fact in str(error.value)


def test_settings_of_parts_and_gates_that_cannot_be_meant_are_refused():
    for make, fact in (
        (lambda: PartSettings("null_space", intervention="add"), "takes steps of its own"),
        (lambda: PartSettings("false_refusal", orthogonal=1.5), "a share"),
        (lambda: PartSettings("false_refusal", strength=2.0), "fraction of the component"),
        (lambda: PartSettings(per_kind=1), "two prompts"),
        (lambda: PartSettings("null_space", free=1.0), "a share"),
        (lambda: PartSettings("false_refusal", gate=GateSettings("linear")), "weights the strength by -1"),
        (lambda: GateSettings(others=0.0), "Give `gate.kind`"),
        (lambda: numbered(intervention="ablate", strength=1.0, gate=GateSettings("linear")), "by -1"),
        (lambda: PartSettings(layers=[1], segment="last"), "behind which blocks"),
        (lambda: PartSettings(intervention="clamp"), "every state gets"),
        (lambda: PartSettings(intervention="match", strength=1.5), "To go all of it"),
        (lambda: GateSettings("linear", finds=["a"], against=["a"]), "each has to be in one"),
        (lambda: GateSettings("linear", finds=["a"], join="any"), "Give two kinds or more"),
        (lambda: GateSettings("linear", spares=["a"], join="all"), "Give two kinds or more"),
        (lambda: GateSettings("linear", ramp=1.0, dead_zone=1.0), "Leave one of the two out"),
    ):
        with pytest.raises(SettingError, match=fact):
            make()
    states = {kind: torch.randn(3, 6, 4) for kind in ("harmful", "harmless")}
    assert sorted(fit_part(PartSettings(segment="middle"), states, 6)) == [2, 3]
    with pytest.raises(DataError, match="borderline, contrast"):
        PartSettings("false_refusal").check_prompts({"harmful": 3, "harmless": 2, "borderline": 1})
    with pytest.raises(DataError, match="borderline, contrast"):
        fit_part(PartSettings("false_refusal"), {"harmful": torch.randn(3, 2, 4), "harmless": torch.randn(3, 2, 4)}, 2)


def test_parts_of_other_weights_are_refused():
    model = llama()
    part = artifact_for(model)
    part.fingerprints = {"original": "another"}
    with pytest.raises(ArtifactError, match="was fitted on"):
        artifact_for(model, parts={"a": part})


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
