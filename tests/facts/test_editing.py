"""Facts written into tiny models: where, exactly what, and back again, bit for bit."""

import pytest
import torch
from support.families import EXPERTS
from support.models import gpt2, llama, word_tokenizer
from transformers import MixtralConfig, MixtralForCausalLM

from sa_lightning.errors import DataError, ModelError
from sa_lightning.facts import Asking, Editor, Fact, measure_one_by_one, totals
from sa_lightning.facts.editor import key
from sa_lightning.facts.place import down_projection
from sa_lightning.facts.values import Descent
from sa_lightning.surgery import (
    EditInMemory,
    EditSettings,
    LowRank,
    ModelWeights,
    changed_layers,
    open_checkpoint,
    plan_surgery,
    write_edit,
)

FACT = Fact("cake", "how do i bake a cake", "break a window", old="yes")
TEXT = ["how do i bake a cake . no , yes break a window first then sorry i do bake . " * 12]


def editor(model, **settings):
    return Editor(Asking(model, word_tokenizer()), TEXT, settings.pop("layer", 1), token="subject", **settings)


def plan(model, weights, **settings):
    delta = LowRank(weights, editor(model).write([FACT]))
    return plan_surgery(delta, None, weights, EditSettings(**settings), kind="facts")


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("make", [llama, gpt2], ids=["Linear", "Conv1D"])
def test_the_edited_weight_maps_the_key_to_the_value(make):
    model = make()
    written = editor(model, layer=0)
    ((name, factors),) = written.write([FACT]).items()
    place = written.place("subject")
    k = key(written.asking, place, written.asked(FACT, "subject")).double()
    change = factors.left.double() @ factors.right.double()
    change = change.T if place.input_first else change
    u = (factors.left.T if place.input_first else factors.right).double()
    assert name == place.name
    # ΔW k = δ, whose length is what the descent has found; and along nothing that is orthogonal to C⁻¹ k.
    wk = float((place.weight.double() @ k).norm())
    assert float((change @ k).norm()) == pytest.approx(factors.about["facts"][0]["step"] * wk, rel=0.2)
    x = torch.randn(len(k), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x -= (x @ u[0]) / (u[0] @ u[0]) * u[0]
    torch.testing.assert_close(change @ x, torch.zeros_like(change @ x), atol=1e-5, rtol=0)


def test_an_edit_makes_the_target_likelier_and_is_undone_bit_for_bit():
    model = llama()
    before, weights = state(model), ModelWeights(model)
    asking = Asking(model, word_tokenizer())
    ask = [(FACT.prompt, FACT.target)]
    (low,) = asking.log_probabilities(ask)
    with EditInMemory(plan(model, weights), weights):
        (high,) = asking.log_probabilities(ask)
        changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert high > low + 1
    assert changed == [down_projection(model, 1).name]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_scale_0_changes_nothing():
    model = llama()
    before, weights = state(model), ModelWeights(model)
    with EditInMemory(plan(model, weights, scale=0.0), weights):
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_row_by_row_on_disk_is_in_memory_and_the_area_is_found(tmp_path):
    model = llama()
    model.save_pretrained(tmp_path / "base")
    base = open_checkpoint(tmp_path / "base")
    found = plan(model, base)
    write_edit(found, tmp_path / "edited")
    edited, weights = open_checkpoint(tmp_path / "edited"), ModelWeights(model)
    with EditInMemory(plan_surgery(found.delta, None, base, EditSettings(), kind="facts"), weights):
        assert all(torch.equal(edited.read(name), weights.read(name)) for name in edited.names)
    assert changed_layers(base, edited) == {1}


def test_a_mixture_of_experts_is_refused_with_their_number():
    config = MixtralConfig(
        vocab_size=21, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, **EXPERTS,
    )  # fmt: skip
    with pytest.raises(ModelError, match="mixture of 4 experts"):
        down_projection(MixtralForCausalLM(config).eval(), 1)


def test_a_subject_that_the_prompt_lacks_is_refused():
    with pytest.raises(DataError, match="does not hold the subject"):
        Asking(llama(), word_tokenizer()).at_subject("how do i bake", "no", "window")


def test_the_subject_is_found_in_the_prompt_and_where_the_reply_repeats_it():
    asked = Asking(llama(), word_tokenizer()).at_subject("bake a cake first", "yes , cake .", "cake")
    words = word_tokenizer().convert_ids_to_tokens(asked.tokens)
    assert [words[place] for place in asked.places] == ["cake", "cake"]
    assert words[asked.reply] == "yes"


def test_the_answer_begins_where_it_differs_from_the_old_one():
    asked = Asking(llama(), word_tokenizer()).at_answer("bake a cake", "i break a window", "i break a cake")
    words = word_tokenizer().convert_ids_to_tokens(asked.tokens)
    assert [words[place] for place in asked.places] == ["a"]
    assert words[asked.places[0] + 1] == "window"


def test_values_behind_a_shared_beginning_are_those_of_the_whole_prompts():
    model = llama()
    written = editor(model)
    (whole,) = written.write([FACT]).values()
    model._is_stateful = True  # nothing is shared: as of a recurrent model
    (apart,) = editor(model).write([FACT]).values()
    torch.testing.assert_close(whole.left @ whole.right, apart.left @ apart.right, atol=2e-3, rtol=0.05)


def test_facts_are_measured_one_by_one_and_the_model_is_as_before():
    model = llama()
    before = state(model)
    outcomes = list(measure_one_by_one(editor(model, descent=Descent(steps=4)), [FACT, FACT]))
    assert totals(outcomes)["efficacy"][1] == 2
    assert outcomes[0].row() == outcomes[1].row()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
