"""Whatever the batches, the prefixes and the memory, the same states are read, and no work is done beyond that."""

from functools import partial

import pytest
import torch
from support.models import gpt2, llama
from transformers import Phi3Config, Phi3ForCausalLM

from sa_lightning.errors import DataError, ModelError, SettingError
from sa_lightning.fitting.extraction import StateReader, extract, extract_passages
from sa_lightning.models import Passage, collate, locate_blocks

FAMILIES = {"llama": llama, "gpt2": gpt2}


def some_pairs(count=9, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(length):
        return torch.randint(6, 20, (length,), generator=generator).tolist()

    pairs = []
    for index in range(count):
        question = draw(4 + index % 5)
        safe, unsafe = [*question, *draw(3 + index % 4)], [*question, *draw(2 + index % 3)]
        pairs.append((Passage(safe, (len(safe) - 1,)), Passage(unsafe, (len(unsafe) - 2, len(unsafe) - 1))))
    return pairs


def _keep(raw, _module, _args, output):
    raw.append(output if torch.is_tensor(output) else output[0])


def one_by_one(model, pairs, site="residual"):
    """Unbatched, unpadded, through the whole model, with hooks of our own."""
    found = []
    for member in (member for side in (0, 1) for member in (pair[side] for pair in pairs)):
        raw = []
        keep = partial(_keep, raw)
        hooks = [module.register_forward_hook(keep) for module in locate_blocks(model).at(site)]
        model(torch.tensor([member.ids]))
        for hook in hooks:
            hook.remove()
        found.append(torch.stack([states[0, list(member.read)].mean(0) for states in raw]))
    return torch.stack(found[: len(pairs)]), torch.stack(found[len(pairs) :])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [1, 70, 10_000])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("site", ["residual", "mlp"])
def test_batches_budgets_and_shared_prefixes_change_nothing(family, budget, share, site):
    model, pairs = FAMILIES[family](), some_pairs()
    safe, unsafe = one_by_one(model, pairs, site)
    states = extract(model, pairs, site=site, batch_tokens=budget, share_prefixes=share)
    assert torch.allclose(states.safe, safe, atol=1e-5)
    assert torch.allclose(states.unsafe, unsafe, atol=1e-5)


@pytest.mark.parametrize("share", [False, True])
def test_nothing_runs_behind_the_last_layer_that_is_read(monkeypatch, share):
    model, pairs = llama(layers=4), some_pairs()
    whole = extract(model, pairs)
    model.model.layers[2].register_forward_pre_hook(lambda *_: pytest.fail("a layer behind the last one ran"))
    monkeypatch.setattr(model.lm_head, "forward", lambda *_: pytest.fail("the LM head ran"))
    some = extract(model, pairs, layers=[0, 1], share_prefixes=share)
    assert torch.allclose(some.safe, whole.safe[:, :2], atol=1e-5)
    assert torch.allclose(some.unsafe, whole.unsafe[:, :2], atol=1e-5)


def test_the_tokens_of_a_common_prefix_run_once():
    model, pairs = llama(), some_pairs()
    ran, reader = [], StateReader(model, locate_blocks(model))
    model.model.layers[0].register_forward_pre_hook(lambda _m, args: ran.append(args[0].shape[:2].numel()))
    for index, pair in enumerate(pairs):
        reader(collate([pair], [index], [True], share=True))
    prefixes = [4 + index % 5 for index in range(9)]
    least = sum(len(pair[0].ids) + len(pair[1].ids) for pair in pairs) - sum(prefixes)
    assert least <= sum(ran) <= least + 9 * 2  # suffixes of a pair are padded to the longer


def test_half_precision_states_are_read_in_float32():
    model, pairs = llama().bfloat16(), some_pairs()
    states = extract(model, pairs, batch_tokens=1, share_prefixes=False)
    assert states.safe.dtype == torch.float32
    assert torch.equal(states.safe, states.safe.bfloat16().float())  # one token each: exactly what the model wrote
    both = torch.tensor(some_pairs()[0][1].ids)[None]
    raw = []
    hook = model.model.layers[0].register_forward_hook(lambda _m, _i, output: raw.append(output))
    model.model(both)
    hook.remove()
    assert torch.allclose(states.unsafe[0, 0], raw[0][0, -2:].float().mean(0), rtol=2e-2, atol=2e-2)


def short_of_memory(model, most, error=torch.OutOfMemoryError):
    """Let forwards of more than so many tokens fail."""
    seen = []

    def check(_module, _args, kwargs):
        seen.append(kwargs["input_ids"].numel())
        if seen[-1] > most:
            raise error("CUDA out of memory. Tried to allocate 9 GiB" if error is torch.OutOfMemoryError
                        else "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")  # fmt: skip

    model.model.register_forward_pre_hook(check, with_kwargs=True)
    return seen


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("share", [False, True])
def test_a_batch_that_does_not_fit_is_halved_and_later_ones_with_it(error, share):
    model, pairs = llama(), some_pairs(16)
    expected = extract(model, pairs)
    seen = short_of_memory(model, 60, error)
    states = extract(model, pairs, batch_tokens=200, share_prefixes=share)
    assert torch.allclose(states.safe, expected.safe, atol=1e-5)
    failed = [tokens for tokens in seen if tokens > 60]
    assert 1 <= len(failed) <= 4  # it learns


def test_a_pair_that_does_not_fit_is_named_and_other_errors_are_left_alone():
    model = llama()
    short_of_memory(model, 3)
    with pytest.raises(ModelError, match=r"A pair of .* tokens does not fit in memory"):
        extract(model, some_pairs(), share_prefixes=False)
    other = llama()
    other.model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("something else")))
    with pytest.raises(RuntimeError, match="something else"):
        extract(other, some_pairs())


@pytest.mark.parametrize("layers", [[1, 0], [0, 0], [-1], [3], []])
def test_layers_that_cannot_be_read_in_order_are_refused(layers):
    with pytest.raises(SettingError, match="of a model with layers 0 to 2"):
        extract(llama(), some_pairs(2), layers=layers)


def test_no_pairs_are_refused():
    with pytest.raises(DataError, match="no pairs to read"):
        extract(llama(), [])


def test_pairs_with_nothing_in_common_may_share_a_batch_with_others():
    model = llama()
    pairs = [
        *some_pairs(4),
        (Passage([7, 8, 9], (2,)), Passage([8, 8], (1,))),
        (Passage([9], (0,)), Passage([9], (0,))),
    ]
    safe, unsafe = one_by_one(model, pairs)
    states = extract(model, pairs, share_prefixes=True)
    assert torch.allclose(states.safe, safe, atol=1e-5)
    assert torch.allclose(states.unsafe, unsafe, atol=1e-5)
    none = extract(model, pairs[4:], share_prefixes=True)
    assert torch.allclose(none.safe, safe[4:], atol=1e-5)


def long_prefixes():
    question = list(range(6, 20)) * 2
    return [(Passage([*question, 7 + i], (28,)), Passage([*question, 9, 8 + i], (29,))) for i in range(4)]


def test_a_model_that_cannot_go_on_from_a_prefix_is_noticed():
    """It answers otherwise with a cache: what is read must not change by itself."""
    model, pairs = llama(), long_prefixes()
    expected = extract(model, pairs, share_prefixes=False)
    attention = model.model.layers[0].self_attn
    attention.forward = partial(_forgetful, attention.forward)
    states = extract(model, pairs)
    assert torch.allclose(states.safe, expected.safe, atol=1e-5)
    with pytest.raises(SettingError, match="what it reads then differs by"):
        extract(model, pairs, share_prefixes=True)


def _forgetful(forward, *args, **kwargs):
    output = forward(*args, **kwargs)
    cache = kwargs.get("cache", kwargs.get("past_key_values"))
    return output if cache is None else (output[0] + 1, *output[1:])


def test_where_frequencies_depend_on_the_batch_sequences_run_by_themselves():
    torch.manual_seed(0)
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 16}
    config = Phi3Config(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, pad_token_id=0,
        original_max_position_embeddings=16,
        rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, **factors},
    )  # fmt: skip
    model = Phi3ForCausalLM(config).eval().requires_grad_(False)
    pairs = [(Passage(list(range(6, 6 + n)), (n - 1,)), Passage(list(range(5, 25)), (19,))) for n in (3, 9, 12)]
    safe, unsafe = one_by_one(model, pairs)
    states = extract(model, pairs)
    assert torch.allclose(states.safe, safe, atol=1e-5)
    assert torch.allclose(states.unsafe, unsafe, atol=1e-5)
    with pytest.raises(SettingError, match="beyond 16 tokens its rotary frequencies depend on the whole length"):
        extract(model, [(pairs[0][1], pairs[0][1])], share_prefixes=True)
    ran = []
    model.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: ran.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    short = [(pairs[index][0], Passage([7, *pairs[index][0].ids], (index + 2,))) for index in range(3)]
    extract(model, short, share_prefixes=False)
    assert ran == [(6, 13)]  # none is longer than 16 tokens: one batch


def test_a_stream_of_several_parts_is_refused():
    model = llama()
    model.model.layers[0].register_forward_hook(lambda _m, _i, output: output[None].expand(4, *output.shape))
    model.model.layers[1].register_forward_pre_hook(lambda _m, args: (args[0][0], *args[1:]))
    with pytest.raises(ModelError, match="This family's stream has several parts"):
        extract(model, some_pairs(), share_prefixes=False)


@pytest.mark.parametrize("budget", [None, 1, 30])
def test_single_passages_leave_the_states_that_they_leave_in_pairs(budget):
    model, pairs = llama(), some_pairs(7)
    passages = [member for pair in pairs for member in pair][:-1]
    alone = extract_passages(model, passages, batch_tokens=budget)
    states = extract(model, pairs)
    both = torch.stack([states.safe, states.unsafe], 1).flatten(0, 1)[:-1]
    assert alone.shape == both.shape
    assert torch.allclose(alone, both, atol=1e-5)


def test_a_reader_of_a_sharded_model_runs_every_layer():
    model, pairs = llama(), some_pairs(3)
    ran = []
    model.model.layers[2].register_forward_pre_hook(lambda *_: ran.append(1))
    reader = StateReader(model, locate_blocks(model), layers=[0], whole=True)
    safe = reader(collate(pairs, range(3), [True] * 3, share=False))[:3]
    assert ran
    assert torch.allclose(safe[:, 0], extract(model, pairs).safe[:, 0], atol=1e-5)
