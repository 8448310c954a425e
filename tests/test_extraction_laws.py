"""Whatever the batches, the prefixes and the memory, the same states are read, and no work is done beyond that."""

from functools import partial

import pytest
import torch
from conftest import gpt2, llama

from sa_lightning.errors import ModelError
from sa_lightning.extraction import StateReader, extract
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
    some = extract(model, pairs, layers=[1, 0], share_prefixes=share)
    assert torch.allclose(some.safe, whole.safe[:, :2], atol=1e-5)
    assert torch.allclose(some.unsafe, whole.unsafe[:, :2], atol=1e-5)


def test_the_tokens_of_a_common_prefix_run_once():
    model, pairs = llama(), some_pairs()
    ran = []
    model.model.layers[0].register_forward_pre_hook(lambda _m, args: ran.append(args[0].shape[:2].numel()))
    extract(model, pairs, share_prefixes=True, batch_tokens=1)
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


def test_a_reader_of_a_sharded_model_runs_every_layer():
    model, pairs = llama(), some_pairs(3)
    ran = []
    model.model.layers[2].register_forward_pre_hook(lambda *_: ran.append(1))
    reader = StateReader(model, locate_blocks(model), layers=[0], whole=True)
    safe, _ = reader(collate(pairs, range(3), [True] * 3, share=False))
    assert ran
    assert torch.allclose(safe[:, 0], extract(model, pairs).safe[:, 0], atol=1e-5)
