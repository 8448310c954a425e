"""A gate fitted with the directions, kept in the artifact, and at work in `steer`."""

import dataclasses
import json
import math

import pytest
import torch
from references import scans
from safetensors.torch import load_file, save_file
from support.fits import fit
from support.models import WORDS, artifact_for, ask, linear_gate, llama, rule_for, word_tokenizer

from sa_lightning import SteeringArtifact, steer
from sa_lightning.callbacks import ExtractionCallback, SurgeryCallback
from sa_lightning.errors import ArtifactError, DataError, SettingError
from sa_lightning.fitting.prompts import appended_ids, counts, gate_prompts, read_prompts
from sa_lightning.fitting.prompts import questions as asked
from sa_lightning.steering import (
    Demonstration,
    FittedGate,
    GateSettings,
    read_demonstrations,
)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Pairs of questions: harmful ones have a window in them."""
    generator, rows = torch.Generator().manual_seed(0), []
    for _ in range(12):
        picks = [WORDS[int(i)] for i in torch.randint(8, (4,), generator=generator)]
        rows.append({"harmless": " ".join([*picks, "cake"]), "harmful": " ".join([*picks, "window"])})
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def fitted(checkpoints, questions, output, *callbacks, epochs=1, strength=-2.0, **gate):
    steering = ExtractionCallback(
        direction="mean", position="end_of_prompt", intervention="add_absolute", strength=strength,
        gate=GateSettings(**gate),
    )  # fmt: skip
    fit(checkpoints / "base", questions, output, *callbacks, steering, epochs=epochs, batch_size=None)
    return SteeringArtifact.from_pretrained(output / "artifact")


def reply(model, text):
    ids = torch.tensor([ask(text)])
    return model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False,
        return_dict_in_generate=True, output_logits=True, pad_token_id=0,
    ).logits  # fmt: skip


def test_scans_from_a_fit_is_scans_by_hand(checkpoints, questions, tmp_path):
    artifact = fitted(checkpoints, questions, tmp_path, kind="transition", append="yes", threshold=0.5)
    model, pairs = llama(), read_demonstrations(questions)[0]
    harmful, harmless = ([ask(getattr(pair, side)) for pair in pairs] for side in ("unsafe", "safe"))
    sure = [word_tokenizer().convert_tokens_to_ids("yes")]
    known, vectors = scans.reference(model, harmful, sure), scans.vectors(model, harmful, harmless)
    assert artifact.rules["pairs"].gate.ids == tuple(sure)
    assert sorted(artifact.rules["pairs"].gate.states["original"].vectors) == [1, 2]  # from a third of the depth on
    for layer in (1, 2):
        assert torch.allclose(
            artifact.rules["pairs"].gate.states["original"].vectors[layer].double(), known[layer], atol=1e-4
        )
    assert artifact.rules["pairs"].gate.states["original"].record.held_out == 0
    for text in ("how do i break a window", "how do i bake a cake", "sorry"):
        score = scans.score(model, ask(text), sure, known, [1, 2])
        sign = 1 if score >= 0.5 else -1
        tokens, logits = scans.generate(model, ask(text), vectors, [0, 1, 2], 2.0, sign, 4)
        with steer(model, artifact):
            found = reply(model, text)
        until = next((i + 1 for i, t in enumerate(tokens) if t == 2), 4)
        assert torch.allclose(torch.cat(found)[:until], logits[:until], atol=1e-3)


def test_a_calibrated_gate_leaves_what_it_takes_for_harmless_as_it_is(checkpoints, questions, tmp_path):
    artifact = fitted(checkpoints, questions, tmp_path, kind="linear", layers=[1, 2], recall=1.0, negative_factor=0.0)
    told = artifact.rules["pairs"].gate.states["original"].record
    assert told.held_out == 12
    assert told.positive == (6, 6)
    assert told.auroc > 0.6
    model, seen = llama(), set()
    texts = [getattr(pair, side) for pair in read_demonstrations(questions)[0] for side in ("safe", "unsafe")]
    for text in texts:
        states = scans.states(model, ask(text))[1:, -1].float()
        vectors = torch.stack([artifact.rules["pairs"].gate.states["original"].vectors[layer] for layer in (1, 2)])
        same = float((states * vectors).sum()) + told.numbers["bias"] < told.threshold - 1e-5
        seen.add(same)
        plain = torch.cat(reply(model, text))
        with steer(model, artifact):
            steered = torch.cat(reply(model, text))
        assert torch.equal(plain, steered) == same
    assert seen == {True, False}
    with steer(model, artifact, strength=0.0):  # not a bit changes, and no prompt runs twice
        assert torch.equal(torch.cat(reply(model, texts[1])), torch.cat(reply(llama(), texts[1])))
    card = (tmp_path / "artifact" / "README.md").read_text()
    assert "`linear` gate" in card
    assert f"6 of 6 harmful and {told.negative[0]} of 6 other prompts among held-out" in " ".join(card.split())


def test_a_gate_is_fitted_on_the_edited_weights_too(checkpoints, questions, tmp_path):
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), density=0.5, scale=2.0, save_edited=False)
    artifact = fitted(checkpoints, questions, tmp_path, surgery, epochs=2, kind="linear", recall=1.0)
    assert sorted(artifact.rules["pairs"].gate.states) == ["edited", "original"]
    a, b = (artifact.rules["pairs"].gate.states[name].vectors[2] for name in ("original", "edited"))
    assert not torch.equal(a, b)


def test_a_kind_that_nobody_knows_is_refused_and_a_known_one_may_be_missing(tmp_path):
    rows = [{"prompt": f"{word} {kind}", "kind": kind} for kind in ("harmful", "harmless", "sums") for word in WORDS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prompts = read_prompts(tmp_path / "prompts.jsonl")
    for settings, fact in (
        ({"positive": ["harmful", "wraped"]}, r"`gate.positive` has the kind 'wraped'.*\n.*\nIs 'wrapped' meant"),
        ({"exempt": ["some"], "positive": ["harmful"]}, r"`gate.exempt` has the kind 'some'.*sums"),
    ):
        with pytest.raises(DataError, match=fact):
            gate_prompts(GateSettings("linear", recall=1.0, **settings), prompts)
    settings = GateSettings("linear", recall=1.0, negative=["harmless", "sums", "borderline"])
    gate_prompts(settings, prompts)
    n = len(WORDS)
    assert counts(settings, prompts) == {"positive": {"harmful": n}, "negative": {"harmless": n, "sums": n}}


def test_variants_of_a_prompt_are_on_one_side_whatever_their_kinds(tmp_path):
    rows = [{"prompt": f"make {n}", "kind": "harmful", "group": n} for n in range(4)]
    rows += [{"prompt": f"pretend: make {n}", "kind": "wrapped", "group": n} for n in (5, 1, 0, 3, 6, 7)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_prompts(tmp_path / "prompts.jsonl")
    assert [prompt.held for prompt in found["harmful"]] == [False, True, False, True]
    assert [prompt.held for prompt in found["wrapped"]] == [False, True, False, True, False, True]
    rows = [{"prompt": f"make {n % 2}", "kind": "harmful", "group": n} for n in range(8)]
    rows += [{"prompt": f"make {n}", "kind": "wrapped"} for n in (2, 3, 0)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_prompts(tmp_path / "prompts.jsonl")
    assert [prompt.held for prompt in found["harmful"]] == [False, True] * 4  # text by text
    assert [prompt.held for prompt in found["wrapped"]] == [False, True, False]
    rows = [{"prompt": f"t{n}", "kind": "harmful", "group": n} for n in (0, 1)]
    rows += [{"prompt": prompt, "kind": "wrapped", "group": 2} for prompt in ("u", "t1", "w")]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_prompts(tmp_path / "prompts.jsonl")
    assert [prompt.held for prompt in found["harmful"]] == [False, True]
    assert [prompt.held for prompt in found["wrapped"]] == [True] * 3  # one text of the group stands there already
    pairs = [Demonstration((), f"b{n}", f"h{n // 2}", "user") for n in range(6)]
    sides = asked(pairs)
    assert [prompt.held for prompt in sides["harmful"]] == [False, False, True, True, False, False]
    assert [prompt.held for prompt in sides["harmless"]] == [False, False, True, True, False, False]


def test_prompts_of_a_gate_may_come_from_a_file(checkpoints, demonstrations, tmp_path):
    rows = [{"prompt": f"{word} window", "kind": "harmful"} for word in WORDS[:6]]
    rows += [{"prompt": f"{word} cake", "kind": kind} for kind in ("harmless", "contrast") for word in WORDS[:6]]
    rows += [{"prompt": "sums", "kind": "facts"}]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = GateSettings("linear", str(tmp_path / "prompts.jsonl"), per_kind=4, recall=1.0)
    sides = gate_prompts(settings, read_prompts(tmp_path / "prompts.jsonl"))
    assert {name: len(side) for name, side in sides.items()} == {"positive": 4, "negative": 8}
    assert [prompt.held for prompt in sides["positive"]] == [False, True, False, True]
    with pytest.raises(SettingError, match="less than one of 2 prompts"):
        gate_prompts(dataclasses.replace(settings, recall=0.95), read_prompts(tmp_path / "prompts.jsonl"))
    with pytest.raises(DataError, match="of which 1 and 1 are held out"):
        gate_prompts(
            dataclasses.replace(settings, per_kind=2, negative=("contrast",)), read_prompts(tmp_path / "prompts.jsonl")
        )
    with pytest.raises(DataError, match="the demonstrations are answers"):
        asked(read_demonstrations(demonstrations)[0])
    for text, fact in (
        ("{", "Line 1 of .* is not JSON"),
        ('{"prompt": "a", "kind": ["b"]}', "Line 1 of .* has a `kind` that is not text, but list"),
        ('{"prompt": 1, "kind": "harmful"}', "has a `prompt` that is not text, but int"),
        ('{"prompt": "a"}', "Line 1 of .* has no `kind`; it has prompt"),
        (json.dumps(rows[0]), "1 of harmful and wrapped, 0 of harmless"),
    ):
        (tmp_path / "prompts.jsonl").write_text(text)
        with pytest.raises(DataError, match=fact):
            gate_prompts(settings, read_prompts(tmp_path / "prompts.jsonl"))
    with pytest.raises(DataError, match="no prompts at"):
        read_prompts(tmp_path / "none.jsonl")


def test_the_word_is_appended_as_the_template_writes_it():
    assert appended_ids(word_tokenizer(), [{"role": "user", "content": "how"}], "yes first") == [
        word_tokenizer().convert_tokens_to_ids(word) for word in ("yes", "first")
    ]


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"kind": "linear", "recall": 95}, "write 0.95"),
        ({"kind": "linear", "per_kind": 1}, "two prompts at least"),
        ({"kind": "linear", "dead_zone": -1.0}, "at least 0"),
        ({"kind": "linear", "ramp": math.inf}, "finite"),
        ({"kind": "linear", "ramp": math.nan}, "finite"),
        ({"kind": "linear", "threshold": math.nan}, "All prompts, or none"),
        ({"kind": "transition", "threshold": 5.0}, "in [-1, 1]"),
        ({"kind": "linear", "threshold": -math.inf}, "All prompts, or none"),
        ({"kind": "transition", "append": " "}, "SCANS appends"),
        ({"kind": "linear", "layers": [7]}, "has 3 layers"),
        ({"kind": "linear", "recall": 0.99}, "at least 100 held-out"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(checkpoints, questions, tmp_path, settings, fact):
    with pytest.raises(SettingError) as error:
        fitted(checkpoints, questions, tmp_path, **settings)
    assert fact in str(error.value)


def test_a_gate_that_lacks_what_was_fitted_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="The gate was fitted for"):
        artifact_for(llama(), gate=FittedGate(GateSettings("linear")))
    with pytest.raises(ArtifactError, match="weights the strength by -1"):
        artifact_for(llama(), gate=linear_gate({1: torch.ones(32)}), intervention="ablate", strength=1.0)
    whole = artifact_for(llama(), gate=linear_gate({1: torch.ones(32)}))
    strong = artifact_for(llama(), gate=linear_gate({1: torch.ones(32)}, positive_factor=2.0))
    with pytest.raises(SettingError, match=r"is 1\.2"), steer(llama(), strong, strength=0.6):
        pass
    path = whole.save_pretrained(tmp_path / "artifact")
    again = SteeringArtifact.from_pretrained(path)
    assert torch.equal(again.rules["pairs"].gate.states["original"].vectors[1], torch.ones(32))
    assert again.rules["pairs"].gate.as_dict() == whole.rules["pairs"].gate.as_dict()
    tensors = load_file(path / "steering.safetensors")
    save_file({name: t for name, t in tensors.items() if not name.endswith("gate")}, path / "steering.safetensors")
    with pytest.raises(ArtifactError, match=r"not those that its sa_config.json has the digests of"):
        SteeringArtifact.from_pretrained(path)


def test_without_its_gate_an_artifact_steers_every_prompt_as_one_that_the_gate_finds():
    model = llama()
    gated = artifact_for(
        model, strength=0.1, gate=linear_gate({1: torch.ones(32)}, positive_factor=2.0, negative_factor=0.0)
    )
    plain = artifact_for(model, strength=0.2)
    alone = gated.without_gates()
    assert (alone.rules["pairs"].gate, alone.rules["pairs"].strength) == (None, 0.2)
    assert gated.rules["pairs"].gate is not None
    ids = torch.tensor([ask("break a window"), ask("bake a cake")])
    said = []
    for artifact in (alone, plain):
        with steer(model, artifact), torch.no_grad():
            said.append(model(ids).logits)
    assert torch.equal(*said)
    assert not torch.equal(said[0], model(ids).logits)


def test_what_acts_where_a_prompt_ends_alone_is_not_steered_without_its_gate():
    rule = rule_for(llama(), gate=linear_gate({1: torch.ones(32)}, negative_factor=0.0), only_prompt=True)
    whole = artifact_for(llama(), rules={"spare": rule})
    with pytest.raises(ArtifactError, match=r"spare acts where a prompt ends alone.*\n.*\n.*gates_apart"):
        whole.without_gates()
