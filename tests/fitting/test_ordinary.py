"""Typical norms and sinks: what a slow look at every hidden state says; and the dose of a step."""

import pytest
import torch
from support.models import llama, rule_for

from sa_lightning.errors import DataError
from sa_lightning.fitting import doses, ordinary_states
from sa_lightning.models import locate_blocks
from sa_lightning.steering import INTERVENTIONS

SEQUENCES = [[1, 6, 7, 8, 9, 10], [1, 11, 12], [1, 13, 14, 15, 16]]


def sink_model(factor=100.0):
    """A model whose first token, and no other, leaves states that are far longer than all others."""
    model = llama(layers=3)
    with torch.no_grad():
        model.model.embed_tokens.weight[1] *= factor
    return model


def by_hand(model):
    """Norms behind every block, from hooks of its own, token by token."""
    norms, hooks = [[] for _ in model.model.layers], []
    for kept, layer in zip(norms, model.model.layers, strict=True):
        hooks.append(
            layer.register_forward_hook(lambda m, a, out, kept=kept: kept.extend(out[0].norm(dim=-1).tolist()))
        )
    for ids in SEQUENCES:
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return torch.tensor(norms)


def test_typical_norms_are_medians_over_all_tokens():
    model = llama()
    found = ordinary_states(locate_blocks(model), SEQUENCES)
    expected = by_hand(model)
    assert torch.allclose(found.norms, expected, rtol=1e-5)
    assert torch.allclose(found.stream, expected.median(1).values, rtol=1e-5)
    assert torch.equal(found.stream, found.site)


def test_a_site_has_typical_norms_of_its_own_beside_those_of_the_stream():
    model = llama()
    found, stream = (ordinary_states(locate_blocks(model), SEQUENCES, site) for site in ("mlp", "residual"))
    assert torch.equal(found.stream, stream.stream)
    norms = []
    hook = model.model.layers[1].mlp.register_forward_hook(lambda m, a, out: norms.extend(out[0].norm(dim=-1).tolist()))
    for ids in SEQUENCES:
        model(torch.tensor([ids]))
    hook.remove()
    assert torch.allclose(found.site[1], torch.tensor(norms).median(), rtol=1e-5)


def test_planted_sinks_are_found_where_they_are_and_move_no_median():
    found = ordinary_states(locate_blocks(sink_model()), SEQUENCES)
    assert found.sinks(8.0) == (3, 3)
    assert ordinary_states(locate_blocks(llama()), SEQUENCES).sinks(8.0) == (0, 0)
    assert found.stream.max() < 8 * ordinary_states(locate_blocks(llama()), SEQUENCES).stream.max()


def test_without_text_there_is_no_typical_norm():
    with pytest.raises(DataError, match="no text"):
        ordinary_states(locate_blocks(llama()), [])


def dosed(setting, name, ordinary, strength=None):
    model, rule = setting
    return doses(model, locate_blocks(model), rule, name, ordinary, strength)


def fitted(model, intervention, strength, unit="typical", site="residual"):
    ordinary = ordinary_states(locate_blocks(model), SEQUENCES, site)
    norms = {"original": {layer: float(ordinary.site[layer]) for layer in range(3)}}
    settings = {"intervention": intervention, "unit": unit, "typical_norms": norms, "sinks": 8.0, "site": site}
    return (model, rule_for(model, strength, **settings)), ordinary


def test_behind_a_norm_the_dose_is_what_reaches_the_stream():
    """Gemma 3 normalises what its MLP writes, so that a small output, with a small step, moves the stream as far."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    sizes = {"vocab_size": 21, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "head_dim": 8}
    config = Gemma3TextConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2)
    model = Gemma3ForCausalLM(config).eval().requires_grad_(False)
    setting, ordinary = fitted(model, "add", 0.5, site="mlp")
    small = dosed(setting, "original", ordinary)
    with torch.no_grad():  # a smaller MLP before the same norm: the same stream
        for layer in model.model.layers:
            layer.mlp.down_proj.weight *= 0.1
    shrunk, again = fitted(model, "add", 0.5, site="mlp")
    assert all(again.site[layer] < 0.2 * ordinary.site[layer] for layer in range(3))
    assert dosed(shrunk, "original", again) == pytest.approx(small, rel=0.05)


def test_the_dose_of_a_step_in_typical_norms_is_its_strength():
    setting, ordinary = fitted(llama(), "add", 0.2)
    assert dosed(setting, "original", ordinary) == pytest.approx({0: 0.2, 1: 0.2, 2: 0.2}, rel=1e-5)


def test_a_sink_counts_as_moved_by_nothing():
    setting, ordinary = fitted(sink_model(), "add", 0.2)
    moved = ordinary.norms.shape[1] - 3
    for dose in dosed(setting, "original", ordinary).values():
        assert dose == pytest.approx(0.2 * moved / ordinary.norms.shape[1], rel=1e-5)


def test_at_the_mlp_the_dose_is_still_of_the_stream():
    setting, ordinary = fitted(llama(), "add", 0.2, site="mlp")
    expected = {layer: float(0.2 * ordinary.site[layer] / ordinary.stream[layer]) for layer in range(3)}
    assert dosed(setting, "original", ordinary) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [name for name, one in INTERVENTIONS.items() if one.neutral and name != "add_mapped"])
def test_strength_0_has_no_dose_and_more_has_more(name):
    setting, ordinary = fitted(llama(), name, 0.0)
    assert set(dosed(setting, "original", ordinary).values()) == {0.0}
    less, more = (dosed(setting, "original", ordinary, strength) for strength in (0.1, 0.2))
    assert all(0 < less[layer] < more[layer] for layer in less)
