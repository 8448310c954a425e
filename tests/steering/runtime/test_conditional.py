"""Gated steering against SCANS written slowly, on Llama- and GPT-2-shaped models."""

import math

import pytest
import torch
from references import scans
from support.gated import ALPHA, MODELS, STEPS, Scans
from support.models import word_tokenizer
from transformers import MistralForCausalLM

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.models import locate_blocks
from sa_lightning.steering import Step
from sa_lightning.steering.gates.condition import ConditionGate
from sa_lightning.steering.gates.gate import Reading
from sa_lightning.steering.gates.policy import Band, Policy
from sa_lightning.steering.runtime.component import Component
from sa_lightning.steering.runtime.conditional import conditional
from sa_lightning.steering.runtime.prompt_lengths import prompt_lengths


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    return Scans(request.param)


def test_vectors_and_references_are_those_of_the_slow_reading(fitted):
    known = scans.vectors(fitted.model, fitted.harmful, fitted.harmless)
    assert torch.allclose(fitted.directions, known, atol=1e-5)
    known = scans.reference(fitted.model, fitted.harmful, fitted.sure)
    assert torch.allclose(fitted.reference, known, atol=1e-5)


def test_scores_and_steered_logits_of_a_batch_are_those_of_the_slow_reading_one_by_one(fitted):
    with fitted.steering() as decisions:
        found = fitted.generate(fitted.asked)
    logits = torch.stack(found.logits, 1)
    assert torch.allclose(decisions.scores[0].double(), torch.tensor(fitted.expected).double(), atol=1e-5)
    assert decisions.weights[0].tolist() == [1.0 if s >= fitted.threshold else -1.0 for s in fitted.expected]
    assert {1.0, -1.0} == set(decisions.weights[0].tolist())
    for row, (ids, sign) in enumerate(zip(fitted.asked, decisions.weights[0].tolist(), strict=True)):
        tokens, known = scans.generate(fitted.model, ids, fitted.directions, fitted.steered, ALPHA, sign, STEPS)
        own = found.sequences[row, -STEPS:].tolist()
        until = next((i + 1 for i, t in enumerate(own) if t == 2), STEPS)  # behind the end, padding follows
        assert own[:until] == tokens[:until]
        assert torch.allclose(logits[row, :until], known[:until], atol=1e-4 if until > 1 else 1e-5)
        assert torch.allclose(logits[row, 0], known[0], atol=1e-5)


def test_rows_in_the_dead_zone_are_bit_identical_and_the_others_are_not(fitted):
    plain = fitted.generate(fitted.asked)
    low, high = sorted(fitted.expected)[2] + 1e-4, sorted(fitted.expected)[5] - 1e-4
    policy = Policy((Band(-math.inf, low, -1.0), Band(high, math.inf, 1.0)))
    with fitted.steering(policy) as decisions:
        found = fitted.generate(fitted.asked)
    idle = decisions.weights[0] == 0
    assert 0 < int(idle.sum()) < len(idle)
    a, b = torch.stack(plain.logits, 1), torch.stack(found.logits, 1)
    assert torch.equal(a[idle], b[idle])
    assert not any(torch.equal(x, y) for x, y in zip(a[~idle], b[~idle], strict=True))
    assert torch.equal(plain.sequences[idle], found.sequences[idle])


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_after_the_block_nothing_is_left_and_strength_zero_changes_nothing(fitted, cache):
    plain = fitted.generate(fitted.asked, cache_implementation=cache)
    if cache == "static" and isinstance(fitted.model, MistralForCausalLM):
        with fitted.steering(), pytest.raises(ModelError, match="StaticSlidingWindowLayer has lost"):
            fitted.generate(fitted.asked, cache_implementation=cache)
        return
    with fitted.steering(strength=0.0):
        still = fitted.generate(fitted.asked, cache_implementation=cache)
    again = fitted.generate(fitted.asked, cache_implementation=cache)
    assert torch.equal(torch.stack(plain.logits), torch.stack(again.logits))
    assert torch.allclose(torch.stack(plain.logits), torch.stack(still.logits), atol=1e-4)


def test_a_batch_is_what_its_prompts_are_alone(fitted):
    with fitted.steering() as decisions:
        together, weights = fitted.generate(fitted.asked), decisions.weights[0].tolist()
        for row, ids in enumerate(fitted.asked[:4]):
            alone = fitted.generate([ids])
            assert decisions.weights[0].tolist() == weights[row : row + 1]
            assert torch.allclose(torch.stack(alone.logits, 1)[0, 0], together.logits[0][row], atol=1e-5)


def test_the_gate_costs_as_many_tokens_as_are_appended_and_one_more(fitted):
    seen = []
    blocks = locate_blocks(fitted.model)
    handle = blocks.layers[0].register_forward_hook(
        lambda _module, _args, output: seen.append((output if torch.is_tensor(output) else output[0]).shape[1])
    )
    with fitted.steering():
        fitted.generate(fitted.asked)
    handle.remove()
    longest = max(map(len, fitted.asked))
    assert seen == [longest, 1, 1, *[1] * (STEPS - 1)]


def test_a_mean_over_the_prompt_leaves_padding_out(fitted):
    gate = ConditionGate((1,), torch.randn(1, 32, generator=torch.Generator().manual_seed(4)))
    blocks = locate_blocks(fitted.model)
    step = (blocks.layers[0], Step("add_absolute", fitted.directions[0].float(), 1.0, torch.device("cpu")))
    component = Component(gate, Policy.threshold(0.5, below=0.0), [step])
    with conditional(fitted.model, blocks.decoder, blocks.at("residual"), [component]) as decisions:
        fitted.generate(fitted.asked)
    for row, ids in enumerate(fitted.asked):
        mean = scans.states(fitted.model, ids)[1].mean(0)[None, None].float()
        known = gate(Reading((1,), mean, mean=mean))
        assert torch.allclose(decisions.scores[0][row], known[0], atol=1e-5)


def test_where_prompts_end_can_be_told_and_answers_are_steered_as_they_are_in_generation(fitted):
    with fitted.steering() as decisions:
        found = fitted.generate(fitted.asked)
        weights = decisions.weights[0].tolist()
        said = [row.tolist() for row in found.sequences[:, -STEPS:]]
        rows = [[*ids, *reply[:-1]] for ids, reply in zip(fitted.asked, said, strict=True)]
        width = max(map(len, rows))
        whole = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        with prompt_lengths([len(ids) for ids in fitted.asked]):
            logits = fitted.model(whole).logits
        assert decisions.weights[0].tolist() == weights
    for row, ids in enumerate(fitted.asked):
        until = next((i + 1 for i, t in enumerate(said[row]) if t == 2), STEPS)
        own = torch.stack(found.logits, 1)[row, :until]
        assert torch.allclose(logits[row, len(ids) - 1 : len(ids) - 1 + until], own, atol=1e-4)
    with fitted.steering(), prompt_lengths([3]), pytest.raises(ModelError, match="one number for each row"):
        fitted.model(whole)


def test_the_whole_prompt_can_be_steered(fitted):
    with fitted.steering(whole_prompt=True) as decisions:
        found = fitted.generate(fitted.asked)
    for row, ids in enumerate(fitted.asked[:3]):
        sign = decisions.weights[0][row].item()
        handles = []
        blocks = locate_blocks(fitted.model)
        for layer in fitted.steered:
            vector = sign * ALPHA * fitted.directions[layer].float()

            def add(_module, _args, output, vector=vector):
                return output + vector if torch.is_tensor(output) else (output[0] + vector, *output[1:])

            handles.append(blocks.layers[layer].register_forward_hook(add))
        known = fitted.model(torch.tensor([ids])).logits[0, -1]
        for handle in handles:
            handle.remove()
        assert torch.allclose(found.logits[0][row], known, atol=1e-5)


def test_what_cannot_be_gated_is_refused(fitted):
    with fitted.steering(), pytest.raises(ModelError, match="use_cache=True"):
        fitted.model(torch.tensor([fitted.asked[0]]), use_cache=False)
    fitted.sure = []
    with pytest.raises(SettingError, match="appended text"), fitted.steering():
        pass
    fitted.sure = [word_tokenizer().convert_tokens_to_ids("yes")]


def test_a_policy_gives_each_score_one_weight():
    scores = torch.tensor([-2.0, 0.0, 0.5, 1.0, math.nan])
    policy = Policy((Band(-math.inf, 0.0, -1.0), Band(1.0, math.inf, 0.5)))
    assert policy.weights(scores).tolist() == [-1.0, 0.0, 0.0, 0.5, 0.0]
    assert Policy.threshold(0.5).weights(scores).tolist() == [-1.0, -1.0, 1.0, 1.0, 0.0]
    with pytest.raises(SettingError, match="in two bands"):
        Policy((Band(0.0, 1.0, 1.0), Band(0.5, 2.0, -1.0)))
    with pytest.raises(SettingError, match="not a number"):
        Policy.threshold(math.nan)
