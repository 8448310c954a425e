"""Laws of reading and steering, for every family that we say works."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import jaxtyping
import pytest
import torch
from support.families import FAMILIES
from support.models import artifact_for, padded
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.auto_factory import _LazyAutoMapping

from sa_lightning.fitting.extraction import extract
from sa_lightning.models import Passage, last_positions, locate_blocks, position_ids
from sa_lightning.models.as_asked import auto_class
from sa_lightning.steered import steer
from sa_lightning.steering import gather_mean
from sa_lightning.steering.runtime.hooks import capture

SITES = ("residual", "mlp", "attention")
LENGTHS = (9, 2, 6)
NEW_TOKENS = 12

# Where the reference reads, in a block: a child by its class, but for two families. OPT has no module for its MLP;
# the modules of BLOOM add the stream to what they computed, so only the projections inside write what is meant.
CLASSES = {"mlp": re.compile(r"(MLP|Moe|MoE|MoeBlock)$"), "attention": re.compile(r"Attention$")}
PROJECTIONS = {"OPT": {"mlp": "fc2"}, "BLOOM": {"mlp": "mlp.dense_4h_to_h", "attention": "self_attention.dense"}}
# These normalise what attention and MLP wrote before they add it to the stream.
NORMALISED_BRANCHES = {"Gemma2", "Gemma3", "Gemma3 with vision", "OLMo2"}
COMPILED = ("Llama", "Qwen3", "Gemma2", "GPT-NeoX", "Phi-3")

made = functools.cache(lambda family: FAMILIES[family]())


@functools.cache
def rows() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 64, (length,), generator=generator) for length in LENGTHS]


def batch(side: str) -> Iterable[torch.Tensor]:
    return padded(rows(), side, 7).values()


def hidden_of(output: torch.Tensor | tuple) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


@contextmanager
def hooks(*pairs) -> Iterator[None]:
    with ExitStack() as stack:
        for module, hook in pairs:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def generated(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, **options) -> torch.Tensor:
    """The new tokens."""
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0, **options}
    return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :]


def run_decoder(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> None:
    decoder = locate_blocks(model).decoder
    options = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if "position_ids" in inspect.signature(decoder.forward).parameters:
        options["position_ids"] = position_ids(mask)
    with torch.no_grad():
        decoder(**options)


def reference_module(family: str, block: nn.Module, site: str) -> nn.Module:
    if site == "residual":
        return block
    if site in PROJECTIONS.get(family, {}):
        return block.get_submodule(PROJECTIONS[family][site])
    (module,) = [child for child in block.children() if CLASSES[site].search(type(child).__name__)]
    return module


@functools.cache
def alone(family: str) -> list[dict[str, list[torch.Tensor]]]:
    """Per row, fed by itself to the whole model: site -> what each block wrote, (pos, d_model); and its `input`."""
    model, found = made(family), []
    for row in rows():
        seen: dict[str, list[torch.Tensor]] = {site: [] for site in ("input", *SITES)}
        pairs = [
            (reference_module(family, block, site), functools.partial(_append, seen[site], len(row)))
            for block in locate_blocks(model).layers
            for site in SITES
        ]
        enters = [(block, functools.partial(_append_input, seen["input"])) for block in locate_blocks(model).layers]
        with hooks(*pairs, *enters), torch.no_grad():
            model(input_ids=row[None])
        found.append(seen)
    return found


# Copies: Falcon adds to the output of its MLP in place.
def _append(seen, length, _module, _args, output):
    seen.append(hidden_of(output).clone().reshape(length, -1))


def _append_input(seen, _module, args, _output):
    seen.append(args[0][0].clone())


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_extraction_reads_is_what_each_sequence_leaves_by_itself(family, share):
    """Without a mask on the right, or on top of the keys and values of a common beginning."""
    model, ids = made(family), [row.tolist() for row in rows()]
    pairs = [
        (Passage(ids[0], (8,)), Passage([*ids[0][:6], *ids[1]], (7,))),
        (Passage(ids[2], (5,)), Passage([*ids[2][:3], *ids[1]], (4,))),
    ]
    states = extract(model, pairs, share_prefixes=share)
    for side, found in enumerate((states.safe, states.unsafe)):
        for pair, read in zip(pairs, found, strict=True):
            for layer, expected in enumerate(written_by(model, pair[side].ids)):
                assert torch.allclose(read[layer], expected[-1], atol=1e-5 * float(expected.abs().max()) + 1e-5)


def written_by(model: nn.Module, ids: list[int]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    pairs = [(block, functools.partial(_append, found, len(ids))) for block in locate_blocks(model).layers]
    with hooks(*pairs), torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    return found


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_from_a_padded_batch_is_what_each_sequence_leaves_by_itself(family, side, site):
    model = made(family)
    ids, mask = batch(side)
    for count in (1, 3):
        positions, valid = last_positions(mask, count)
        read = functools.partial(gather_mean, positions=positions, valid=valid)
        with capture(locate_blocks(model).at(site), read) as captured:
            run_decoder(model, ids, mask)
        expected = torch.stack(
            [torch.stack([layer[-count:].mean(0) for layer in seen[site]]) for seen in alone(family)]
        )
        error = (captured.stacked() - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert error.max() < 1e-5


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in NORMALISED_BRANCHES])
def test_what_attention_and_mlp_write_is_what_the_block_adds_to_the_stream(family):
    blocks = locate_blocks(made(family))
    ids = rows()[0][None]
    seen = {}
    for site in SITES:
        with capture(blocks.at(site), lambda hidden: hidden.clone().reshape(LENGTHS[0], -1)) as captured:
            run_decoder(made(family), ids, torch.ones_like(ids))
        seen[site] = captured.stacked()
    before = torch.stack(alone(family)[0]["input"], 1)
    difference = seen["residual"] - before - seen["attention"] - seen["mlp"]
    assert difference.norm() < 1e-5 * seen["residual"].norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lm_head_does_not_run_while_reading(family):
    model, calls = made(family), []
    ids, mask = batch("left")
    with hooks((model.get_output_embeddings(), lambda *_: calls.append(1))):
        run_decoder(model, ids, mask)
        assert not calls
        model(input_ids=ids, attention_mask=mask)
        assert calls


@pytest.mark.parametrize("family", FAMILIES)
def test_steered_replies_are_the_same_with_and_without_cache_and_in_a_batch_and_alone(family):
    model = made(family)
    ids, mask = batch("left")
    plain = generated(model, ids, mask)
    with steer(model, artifact_for(model)):
        cached = generated(model, ids, mask, use_cache=True)
        uncached = generated(model, ids, mask, use_cache=False)
        singles = [generated(model, row[None], torch.ones_like(row)[None]) for row in rows()]
    assert torch.equal(cached, uncached)
    assert torch.equal(cached, torch.cat(singles))
    assert not torch.equal(cached, plain)
    assert cached.unique().numel() > 4  # the reply is not one word, which would hide most errors


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_real_token_of_every_forward_is_changed_and_padding_is_not(family, use_cache, site):
    model = made(family)
    ids, mask = batch("left")
    modules = [reference_module(family, block, site) for block in locate_blocks(model).layers]
    raw, forwards = {}, [0] * len(modules)

    def before(layer):
        def hook(_module, _args, output):
            raw[layer] = hidden_of(output).clone()

        return hook

    def after(layer):
        def hook(_module, _args, output):
            # Counted here, not taken from what the model passes on: the prompt, then one token a forward.
            whole = torch.cat([mask, mask.new_ones(len(mask), forwards[layer])], 1).bool()
            real = whole[:, -1:] if use_cache and forwards[layer] else whole
            changed = (hidden_of(output) != raw[layer]).any(-1).view(real.shape)
            assert torch.equal(changed, real)
            forwards[layer] += 1

        return hook

    # Hooks run in the order in which they were set: before the change, the change, after it.
    with (
        hooks(*[(module, before(layer)) for layer, module in enumerate(modules)]),
        steer(model, artifact_for(model, site=site)),
        hooks(*[(module, after(layer)) for layer, module in enumerate(modules)]),
    ):
        generated(model, ids, mask, use_cache=use_cache)
    assert forwards == [NEW_TOKENS] * len(modules)


@pytest.mark.parametrize("family", FAMILIES)
def test_strength_zero_changes_no_bit_and_the_model_is_given_back_bit_for_bit(family):
    model = made(family)
    ids, mask = batch("left")
    before = model(input_ids=ids, attention_mask=mask).logits
    for site in SITES:
        with steer(model, artifact_for(model, site=site), strength=0.0):
            assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)
        with steer(model, artifact_for(model, site=site)):
            assert not torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.fixture
def compiled() -> Iterator[Callable[..., None]]:
    """Compiles modules, and undoes it."""
    done = []

    def compile_all(*modules: nn.Module) -> None:
        for module in modules:
            module.compile(fullgraph=True, backend="eager")
            done.append(module)

    checked = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)  # the checks that conftest adds are no code that compiles
    torch._dynamo.reset()
    yield compile_all
    for module in done:
        module._compiled_call_impl = None
    torch._dynamo.reset()
    jaxtyping.config.update("jaxtyping_disable", checked)


def logits_of(model: nn.Module) -> torch.Tensor:
    ids, mask = batch("left")
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, use_cache=False).logits


def steered_logits_of(model: nn.Module, site: str = "residual", seed: int = 5) -> torch.Tensor:
    with steer(model, artifact_for(model, site=site, seed=seed)):
        return logits_of(model)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("family", COMPILED)
def test_compiled_blocks_are_steered_as_others_are_by_one_artifact_after_the_other(family, compiled):
    model = made(family)
    plain, one, other = logits_of(model), steered_logits_of(model), steered_logits_of(model, seed=6)
    compiled(*locate_blocks(model).layers)
    assert_near(steered_logits_of(model), one)
    assert_near(steered_logits_of(model, seed=6), other)
    assert_near(logits_of(model), plain)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("what", ["blocks", "model"])
def test_what_was_compiled_and_ran_before_it_was_steered_is_steered_too(what, site, compiled):
    model = made("Llama")
    expected = steered_logits_of(model, site)
    compiled(*(locate_blocks(model).layers if what == "blocks" else [model]))
    logits_of(model)
    assert_near(steered_logits_of(model, site), expected)


def test_the_class_of_a_model_is_found_without_importing_all_families(monkeypatch):
    def keys(self):
        raise AssertionError("imports the config of every family, for ten seconds")

    monkeypatch.setattr(_LazyAutoMapping, "keys", keys)
    assert auto_class(made("Llama").config) is AutoModelForCausalLM
    assert auto_class(made("Llava").config) is AutoModelForImageTextToText
