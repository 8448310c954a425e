"""Gates on models in wrappers, with caches of every kind, and where a decision would be wrong: refused."""

import copy
import math
import warnings
from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from references import scans
from support.gated import ALPHA, Scans, prompts
from support.models import SPECIAL, WORDS, artifact_for, linear_gate, llama, padded, word_tokenizer
from transformers import (
    BambaConfig,
    BambaForCausalLM,
    DynamicCache,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
)

from sa_lightning import steer
from sa_lightning.errors import ModelError
from sa_lightning.models import locate_blocks
from sa_lightning.steering import SelfContrast, Step, TransitionGate, prompt_lengths
from sa_lightning.steering.gates.policy import Band, Policy
from sa_lightning.steering.runtime.component import Component
from sa_lightning.steering.runtime.conditional import conditional, is_gated

SIZES = {
    "vocab_size": len(SPECIAL + WORDS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
UNSTEERED = "Logits of . tokens are asked for where a prompt is decided on"


@pytest.fixture(scope="module")
def fitted():
    return Scans("llama")


def first_logits(model, rows):
    found = model.generate(
        **padded(rows),
        max_new_tokens=3,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.stack(found.logits, 1)


@pytest.mark.parametrize("wrapper", ["peft", "compiled"])
@pytest.mark.parametrize("way", ["generate", "call"])
def test_a_gate_decides_under_a_wrapper_as_on_the_model_inside(wrapper, way):
    if wrapper == "peft":
        outer = (
            get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
            .eval()
            .requires_grad_(False)
        )
        inner = outer.get_base_model()
    else:
        inner = llama(layers=2)
        outer = torch.compile(inner, backend="eager")
    vectors = {1: torch.randn(32, generator=torch.Generator().manual_seed(3))}
    rows = prompts(4, 3)

    def logits(model, steered):
        ask = (
            (lambda: first_logits(model, rows))
            if way == "generate"
            else (lambda: model(torch.tensor([rows[0]])).logits[:, -1])
        )
        if not steered:
            return ask()
        artifact = artifact_for(model, strength=0.5, gate=linear_gate(vectors))
        said = pytest.warns(UserWarning, match=UNSTEERED) if way == "call" else nullcontext()
        with steer(model, artifact), torch.no_grad(), said:
            assert is_gated(model)
            return ask()

    plain, expected, found = logits(inner, False), logits(inner, True), logits(outer, True)
    assert not torch.allclose(expected, plain, atol=1e-3)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not is_gated(outer)
    assert not is_gated(inner)


def sliding():
    kinds = ["sliding_attention", "full_attention"] * 2
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=5, layer_types=kinds))


def convolved():
    return Lfm2ForCausalLM(Lfm2Config(**SIZES, layer_types=["conv", "full_attention"] * 2))


def recurrent():
    return BambaForCausalLM(
        BambaConfig(
            **SIZES, attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=4
        )
    )


def gated(model, policy):
    blocks, generator = locate_blocks(model), torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(4, 32, generator=generator), dim=-1)
    reference = torch.randn(4, 32, generator=generator)
    steps = [
        (blocks.layers[layer], Step("add_absolute", directions[layer], ALPHA, torch.device("cpu"))) for layer in (0, 1)
    ]
    component = Component(TransitionGate((1, 2, 3), reference[1:]), policy, steps)
    sure = [word_tokenizer().convert_tokens_to_ids("yes")]
    return (
        directions,
        reference,
        sure,
        conditional(model, blocks.decoder, blocks.at("residual"), [component], sure, blocks.callers),
    )


@pytest.mark.parametrize("build", [sliding, convolved])
def test_windows_and_convolutions_are_gone_back_in_and_idle_rows_keep_every_bit(build):
    torch.manual_seed(0)
    model = build().eval().requires_grad_(False)
    rows = prompts(6, 3)
    plain = first_logits(model, rows)
    with gated(model, Policy.threshold(2.0, below=0.0))[3]:
        assert torch.equal(first_logits(model, rows), plain)
    with gated(model, Policy.threshold(-2.0))[3] as decisions:
        found = first_logits(model, rows)
    directions, reference, sure, _ = gated(model, Policy.threshold(0.0))
    for row, ids in enumerate(rows):
        assert decisions.scores[0][row].item() == pytest.approx(
            scans.score(model, ids, sure, reference.double(), [1, 2, 3]), abs=1e-5
        )
        _, known = scans.generate(model, ids, directions, [0, 1], ALPHA, 1.0, 1)
        assert torch.allclose(found[row, 0], known[0], atol=1e-5)


def test_a_recurrent_state_cannot_go_back():
    torch.manual_seed(0)
    model = recurrent().eval().requires_grad_(False)
    with (
        gated(model, Policy.threshold(0.0))[3],
        pytest.raises(ModelError, match=r"LinearAttention.* has lost what lies before"),
    ):
        first_logits(model, prompts(2, 3))


def test_a_static_cache_steers_as_a_dynamic_one_and_idle_rows_keep_every_bit(fitted):
    low, high = sorted(fitted.expected)[2] + 1e-4, sorted(fitted.expected)[5] - 1e-4
    policy = Policy((Band(-math.inf, low, -1.0), Band(high, math.inf, 1.0)))
    plain = torch.stack(fitted.generate(fitted.asked, cache_implementation="static").logits, 1)
    with fitted.steering(policy) as decisions:
        static = torch.stack(fitted.generate(fitted.asked, cache_implementation="static").logits, 1)
        dynamic = torch.stack(fitted.generate(fitted.asked).logits, 1)
    idle = decisions.weights[0] == 0
    assert 0 < int(idle.sum()) < len(idle)
    assert torch.equal(static[idle], plain[idle])
    assert torch.allclose(static, dynamic, atol=1e-5)
    assert not torch.allclose(static[~idle], plain[~idle], atol=1e-3)


def test_beams_and_samples_of_a_batch_are_those_of_each_prompt(fitted):
    asked = {"max_new_tokens": 5, "pad_token_id": 0, "num_return_sequences": 2}
    width = max(map(len, fitted.asked))
    with fitted.steering() as decisions:
        together = fitted.model.generate(**padded(fitted.asked), num_beams=3, do_sample=False, **asked)
        assert len(decisions.weights[0]) in (len(fitted.asked), 3 * len(fitted.asked))  # beams share a prompt
        for row, ids in enumerate(fitted.asked):
            alone = fitted.model.generate(torch.tensor([ids]), num_beams=3, do_sample=False, **asked)[:, len(ids) :]
            assert torch.equal(together[2 * row : 2 * row + 2, width : width + alone.shape[1]], alone)
        plain = fitted.model.generate(**padded(fitted.asked), do_sample=True, top_k=1, **asked)
        greedy = fitted.model.generate(**padded(fitted.asked), do_sample=False, max_new_tokens=5, pad_token_id=0)
    assert torch.equal(plain[::2], greedy)
    assert torch.equal(plain[1::2], greedy)


def test_padded_prompts_without_positions_are_decided_as_alone(fitted):
    rows = fitted.asked
    with fitted.steering() as decisions, torch.no_grad():
        with pytest.warns(UserWarning, match=UNSTEERED):
            together = fitted.model(**padded(rows)).logits[:, -1]
        scores = decisions.scores[0]
        for row, ids in enumerate(rows):
            alone = fitted.model(torch.tensor([ids])).logits[0, -1]
            assert torch.allclose(decisions.scores[0][0], scores[row], atol=1e-5)
            assert torch.allclose(alone, together[row], atol=1e-5)


def test_only_the_cache_that_was_decided_on_is_gone_on_from(fitted):
    model, ids = fitted.model, fitted.asked[0]
    prefix = DynamicCache(config=model.config)
    with torch.no_grad():
        model(torch.tensor([ids[:3]]), past_key_values=prefix)
    with fitted.steering(), torch.no_grad():
        with pytest.raises(ModelError, match="no gate has decided on"):
            model(torch.tensor([ids[3:]]), past_key_values=prefix)
        with pytest.warns(UserWarning, match=UNSTEERED):
            first = model(torch.tensor([ids])).past_key_values
        model(torch.tensor([[7]]), past_key_values=first)
        with pytest.raises(ModelError, match=f"holds {len(ids) + 1} tokens"):
            model.generate(torch.tensor([[*ids, 7, 8]]), past_key_values=first, max_new_tokens=2)
        model(torch.tensor([fitted.asked[1]]))
        with pytest.raises(ModelError, match="no gate has decided on"):
            model(torch.tensor([[7]]), past_key_values=first)
        cache = model(torch.tensor([ids])).past_key_values
        copied = copy.deepcopy(cache)  # to go on from one prompt in several ways
        assert torch.equal(
            model(torch.tensor([[7]]), past_key_values=cache).logits,
            model(torch.tensor([[7]]), past_key_values=copied).logits,
        )
        with pytest.raises(ModelError, match="use_cache=True"):
            model(torch.tensor([fitted.asked[1]]), use_cache=False)
        with pytest.raises(ModelError, match="no gate has decided on"):  # the weights are no longer those of this cache
            model(torch.tensor([[7]]), past_key_values=cache)
        with pytest.raises(ModelError, match="no gate has decided on"):
            model(torch.tensor([[7]]), None, None, prefix)


@pytest.mark.parametrize("setting", ["assistant_model", "prefill_chunk_size"])
def test_prompts_that_do_not_come_whole_are_refused(fitted, setting):
    given = {"assistant_model": llama(seed=3), "prefill_chunk_size": 4}
    ids = torch.tensor([fitted.asked[4]])
    own = fitted.model.generate
    with fitted.steering(), pytest.raises(ModelError, match=f"prompts of {ids.shape[1]} tokens.*\n.*\n.*{setting}"):
        fitted.model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0, **{setting: given[setting]})
    assert fitted.model.generate == own
    assert "generate" not in vars(fitted.model)


def test_what_would_not_be_steered_is_refused(fitted):
    model, ids = fitted.model, torch.tensor([fitted.asked[0]])
    with fitted.steering():
        with pytest.raises(ModelError, match=r"prompt_lengths"):
            model(ids, labels=ids)
        with pytest.raises(ModelError, match="returned a tuple"):
            model(ids, return_dict=False)
        with pytest.raises(ModelError, match="runs without its model"):
            model.model(ids)
        with pytest.raises(ModelError, match="second prompt"):
            model.generate(
                ids, max_new_tokens=2, logits_processor=[SelfContrast(model, ids, torch.ones_like(ids), 1.0)]
            )
        with pytest.raises(ModelError, match="steered by gates already"), fitted.steering():
            pass
        artifact = artifact_for(model)
        with pytest.raises(ModelError, match="would read states that this artifact moves"), steer(model, artifact):
            pass
        with pytest.raises(ModelError, match="guidance_scale"):
            model.generate(ids, max_new_tokens=2, guidance_scale=1.5)
        with pytest.raises(ModelError, match="Copy it before the block"):
            copy.deepcopy(model)
        with pytest.raises(ModelError, match="several prompts"):
            model.generate_batch(inputs=ids.tolist())
        assert is_gated(model)
        assert fitted.generate(fitted.asked).logits
    with steer(model, artifact), pytest.raises(ModelError, match="would read steered states"), fitted.steering():
        pass
    with fitted.steering():
        assert fitted.generate(fitted.asked).logits
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_logits_of_a_whole_row_are_warned_of_once_and_those_of_the_last_token_are_not(fitted):
    rows = padded(fitted.asked[:2])
    with fitted.steering(), torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            fitted.model(**rows)
    assert len([one for one in caught if "prompt_lengths" in str(one.message)]) == 1
    with fitted.steering(), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*prompt_lengths")
        fitted.model(**rows, logits_to_keep=1)
        fitted.generate(fitted.asked)


def test_hidden_states_are_those_that_the_logits_are_made_of(fitted):
    low, high = sorted(fitted.expected)[2] + 1e-4, sorted(fitted.expected)[5] - 1e-4
    policy = Policy((Band(-math.inf, low, -1.0), Band(high, math.inf, 1.0)))
    with torch.no_grad():
        plain = fitted.model(**padded(fitted.asked), output_hidden_states=True).hidden_states
        with fitted.steering(policy) as decisions:
            found = fitted.model(**padded(fitted.asked), output_hidden_states=True, logits_to_keep=1)
    idle = decisions.weights[0] == 0
    assert torch.allclose(fitted.model.lm_head(found.hidden_states[-1][:, -1:]), found.logits, atol=1e-5)
    for before, after in zip(plain, found.hidden_states, strict=True):
        assert torch.equal(before[idle], after[idle])
        assert torch.equal(before[:, :-1], after[:, :-1])
    for before, after in zip(plain[2:], found.hidden_states[2:], strict=True):  # behind the first that is steered
        assert not torch.allclose(before[~idle, -1], after[~idle, -1], atol=1e-3)


def test_lengths_that_are_not_those_of_the_rows_are_refused(fitted):
    ids = torch.tensor([fitted.asked[0]])
    width = ids.shape[1]
    for lengths in ([0], [-1], [width + 1]):
        with fitted.steering(), prompt_lengths(lengths), pytest.raises(ModelError, match=f"rows have {width} tokens"):
            fitted.model(ids)
    with fitted.steering(), prompt_lengths([3]):
        with pytest.raises(ModelError, match="outside of `prompt_lengths`"):
            fitted.model.generate(ids, max_new_tokens=2)
        mask = torch.ones_like(ids)
        mask[:, 0] = 0
        with pytest.raises(RuntimeError, match="pad rows on the right"):
            fitted.model(ids, attention_mask=mask)
    with torch.no_grad():
        cache = fitted.model(ids).past_key_values
    with fitted.steering(), prompt_lengths([1]), pytest.raises(ModelError, match=f"a cache of {width} tokens"):
        fitted.model(ids[:, -1:], past_key_values=cache)


def test_prompt_lengths_read_no_logits_but_the_last(fitted):
    seen = []
    handle = fitted.model.lm_head.register_forward_hook(lambda _module, _args, output: seen.append(output.shape[1]))
    ids = torch.tensor([fitted.asked[0]])
    with fitted.steering(), prompt_lengths([3]), torch.no_grad():
        fitted.model(ids)
    handle.remove()
    assert seen == [1, 1, ids.shape[1]]
