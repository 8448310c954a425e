"""Laws of reading from and writing to someone else's model."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from support.models import artifact_for, gpt2, llama

from sa_lightning.errors import SettingError
from sa_lightning.models import last_positions, locate_blocks, position_ids
from sa_lightning.steered import steer
from sa_lightning.steering import (
    INTERVENTIONS,
    add_keep_norm,
    capture,
    gather_mean,
    random_directions,
    steering,
)

FAMILIES = {"llama": llama, "gpt2": gpt2}


def batch(seed=0, lengths=(9, 5, 7)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(6, 20, (length,), generator=generator) for length in lengths]


def padded(rows, side):
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place], mask[index, place] = row, 1
    return ids, mask


def read(model, ids, mask, count=1):
    blocks = locate_blocks(model)
    positions, valid = last_positions(mask, count)
    with capture(blocks.layers, partial(gather_mean, positions=positions, valid=valid)) as captured, torch.no_grad():
        blocks.decoder(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=False)
    return captured.stacked()


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_states_are_the_hidden_states_and_the_last_is_before_the_final_norm(family):
    model = FAMILIES[family]()
    ids, mask = padded(batch(lengths=(8,)), "right")
    states = read(model, ids, mask)
    hidden = model(ids, output_hidden_states=True).hidden_states
    for layer in range(model.config.num_hidden_layers - 1):
        assert torch.equal(states[:, layer], hidden[layer + 1][:, -1])
    assert not torch.allclose(states[:, -1], hidden[-1][:, -1], atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [1, 4])
def test_a_batch_gives_the_states_of_single_prompts(family, side, count):
    model, rows = FAMILIES[family](), batch()
    together = read(model, *padded(rows, side), count)
    for index, row in enumerate(rows):
        alone = read(model, row[None], torch.ones(1, len(row), dtype=torch.long), count)[0]
        assert torch.allclose(together[index], alone, atol=1e-4)


def test_more_tokens_than_a_row_has_are_averaged_over_those_it_has():
    hidden = torch.arange(12.0).view(1, 4, 3)
    mask = torch.tensor([[0, 0, 1, 1]])
    assert torch.equal(gather_mean(hidden, *last_positions(mask, 4)), hidden[:, 2:].mean(1))


def test_the_lm_head_does_not_run_while_reading(monkeypatch):
    model = llama()
    monkeypatch.setattr(model.lm_head, "forward", lambda *_: pytest.fail("the LM head ran"))
    read(model, *padded(batch(), "right"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("site", ["residual", "mlp", "attention"])
def test_steering_changes_replies_and_gives_the_model_back_bit_for_bit(family, site):
    model = FAMILIES[family]()
    ids, mask = padded(batch(), "left")
    before = model(ids, attention_mask=mask).logits
    with steer(model, artifact_for(model, site=site)):
        during = model(ids, attention_mask=mask).logits
    assert (during - before).abs().max() > 1e-3
    assert torch.equal(model(ids, attention_mask=mask).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_model_is_given_back_after_an_error():
    model = llama()
    ids, _ = padded(batch(), "left")
    before = model(ids).logits
    with pytest.raises(ZeroDivisionError), steer(model, artifact_for(model)):
        raise ZeroDivisionError
    assert torch.equal(model(ids).logits, before)


def test_strength_zero_is_bit_identical():
    model = llama()
    ids, mask = padded(batch(), "left")
    before = model(ids, attention_mask=mask).logits
    with steer(model, artifact_for(model), strength=0.0):
        assert torch.equal(model(ids, attention_mask=mask).logits, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_steering_reaches_every_token_decoded_from_the_cache(family):
    model = FAMILIES[family]()
    ids = batch(lengths=(6,))[0][None]
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with steer(model, artifact_for(model)):
        cached = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        uncached = model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=False, **options)
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert torch.equal(cached, uncached)
    assert not torch.equal(cached, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_steered_replies_of_a_batch_are_those_of_single_prompts(family):
    model, rows = FAMILIES[family](), batch()
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    ids, mask = padded(rows, "left")
    with steer(model, artifact_for(model)):
        together = model.generate(ids, attention_mask=mask, **options)[:, ids.shape[1] :]
        for index, row in enumerate(rows):
            alone = model.generate(row[None], attention_mask=torch.ones(1, len(row), dtype=torch.long), **options)
            assert torch.equal(alone[0, len(row) :], together[index])


def test_padding_is_not_steered():
    model = llama()
    blocks = locate_blocks(model)
    ids, mask = padded(batch(), "left")
    ids[mask == 0] = 7  # the pad token's embedding is zero, which no step can move
    change = partial(add_keep_norm, direction=random_directions((1, 32), 0)[0], strength=0.5)

    def first_block():
        with capture(blocks.layers[:1], lambda hidden: hidden.clone()) as captured, torch.no_grad():
            blocks.decoder(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask))
        return captured.values[0]

    plain = first_block()
    with steering(blocks.decoder, [(blocks.layers[0], change)]):
        steered = first_block()
    real = mask.bool()
    assert torch.equal(steered[~real], plain[~real])
    assert (steered[real] - plain[real]).norm(dim=-1).min() > 0.1


def test_reading_a_module_that_did_not_run_is_an_error():
    model = llama()
    with capture(locate_blocks(model).layers, lambda hidden: hidden) as captured:
        pass
    with pytest.raises(RuntimeError, match="did not run"):
        captured.stacked()


def synchronisations(model, ids, mask):
    """How often a value was fetched from the device while a reply was generated."""
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model.generate(ids, attention_mask=mask, **options)
    return sum(event.count for event in profile.key_averages() if event.key == "aten::_local_scalar_dense")


@pytest.mark.parametrize("intervention", INTERVENTIONS)
@pytest.mark.parametrize("site", ["residual", "mlp", "attention"])
def test_steering_never_asks_the_device_for_a_value(intervention, site):
    model = llama()
    ids, mask = padded(batch(), "left")
    plain = synchronisations(model, ids, mask)
    with steer(model, artifact_for(model, site=site, intervention=intervention)):
        assert synchronisations(model, ids, mask) == plain
    assert plain > 0  # generate itself asks whether all have ended, so that the count can differ


def test_the_count_of_synchronisations_notices_one():
    model = llama()
    ids, mask = padded(batch(), "left")
    plain = synchronisations(model, ids, mask)
    layer = model.model.layers[0]
    with steering(model.model, [(layer, lambda hidden: hidden * float(hidden.norm() > -1))]):
        assert synchronisations(model, ids, mask) > plain


def test_strengths_differ_by_layer_and_layers_not_named_are_not_steered():
    model = llama()
    ids, mask = padded(batch(), "left")
    artifact = artifact_for(model)

    def states(strength):
        with steer(model, artifact, strength=strength):
            return read(model, ids, mask)

    plain, one, two = states(0.0), states({1: 0.2}), states({1: 0.2, 2: 0.4})
    assert torch.equal(one[:, 0], plain[:, 0])
    assert not torch.allclose(one[:, 2], plain[:, 2], atol=1e-3)
    assert torch.equal(two[:, :2], one[:, :2])
    for strength in ({}, {3: 0.1}, {1: 0.1, 7: 0.1}):
        with pytest.raises(SettingError, match="would be ignored"):
            states(strength)


@pytest.mark.parametrize("hidden_behind", ["buffers", "accelerate"])
def test_modules_without_parameters_are_steered_where_they_compute(hidden_behind):
    model = llama()
    ids, mask = padded(batch(), "left")
    artifact = artifact_for(model, site="mlp")
    with steer(model, artifact):
        expected = model(ids, attention_mask=mask).logits
    for layer in model.model.layers:
        for name in ("gate_proj", "up_proj", "down_proj"):
            linear = getattr(layer.mlp, name)
            quantised = torch.nn.Module()
            quantised.register_buffer("packed", linear.weight.detach().clone())
            quantised.forward = partial(_packed, quantised)
            setattr(layer.mlp, name, quantised)
        if hidden_behind == "accelerate":
            layer.mlp._hf_hook = SimpleNamespace(execution_device="cpu")
    with steer(model, artifact, allow_other_weights=True):
        assert torch.allclose(model(ids, attention_mask=mask).logits, expected, atol=1e-5)


def _packed(module, x):
    return torch.nn.functional.linear(x, module.packed)


def test_clamping_and_ablation_act_through_hooks():
    model = llama()
    ids, mask = padded(batch(), "left")
    for intervention, strength, expected in (("clamp", 2.5, 2.5), ("ablate", 1.0, 0.0)):
        artifact = artifact_for(model, intervention=intervention, strength=strength)
        with steer(model, artifact):
            states = read(model, ids, mask)
        along = (states * torch.stack([artifact.directions["original"][layer] for layer in range(3)])).sum(-1)
        # Capture hooks come after those of `steer`, so they see what was changed.
        assert torch.allclose(along, torch.full_like(along, expected), atol=1e-4)
