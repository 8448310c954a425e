"""While a model is steered, whatever else is done with it: steered as it should be, or refused; never silently not."""

import copy
import dataclasses
import io
import pickle
import threading
from collections import namedtuple

import pytest
import torch
from support.models import artifact_for, linear_gate, llama, padded
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.utils import ModelOutput

from sa_lightning import steer
from sa_lightning.errors import ArtifactError, ModelError
from sa_lightning.models import locate_blocks
from sa_lightning.steering import capture

IDS = torch.tensor([[7, 8, 9, 10]])
GATES = [False, True]


def artifact(model, gated=False, **changes):
    gate = linear_gate({1: torch.randn(32, generator=torch.Generator().manual_seed(3))}) if gated else None
    return artifact_for(model, strength=0.5, gate=gate, **changes)


def first(model, ids=IDS, **options):
    """Tokens of a short reply, and the logits of its first."""
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    options.setdefault("attention_mask", torch.ones_like(ids))
    found = model.generate(ids, return_dict_in_generate=True, output_logits=True, **options)
    return found.logits[0]


def assert_free(model):
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert "generate" not in vars(model)


@pytest.mark.parametrize("gated", GATES)
@pytest.mark.parametrize("part", ["", "model", "model.layers.1"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "save"])
def test_a_steered_model_is_not_copied(gated, part, way):
    model = llama()
    before = first(model)
    ways = {"deepcopy": copy.deepcopy, "pickle": pickle.dumps, "save": lambda m: torch.save(m, io.BytesIO())}
    with steer(model, artifact(model, gated)):
        with pytest.raises(ModelError, match="copied, or pickled, while it is steered"):
            ways[way](model.get_submodule(part))
        assert not torch.equal(first(model), before)
    assert_free(model)
    assert torch.equal(first(copy.deepcopy(model)), before)


def test_a_steered_model_can_be_saved_as_a_checkpoint(tmp_path):
    model = llama()
    with steer(model, artifact(model)):
        model.save_pretrained(tmp_path)
    assert torch.allclose(first(type(model).from_pretrained(tmp_path)), first(model), atol=1e-5)


def in_a_thread(call):
    found = []

    def run():
        try:
            found.append(call())
        except Exception as error:  # handed over to the test's own thread
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("gated", GATES)
def test_a_forward_in_a_second_thread_is_refused_while_one_runs_and_right_otherwise(gated):
    model = llama()
    refused = []

    def meanwhile(_module, _args):
        refused.append(in_a_thread(lambda: model(IDS)))

    with steer(model, artifact(model, gated)), torch.no_grad():
        expected = first(model)
        handle = model.model.layers[1].register_forward_pre_hook(meanwhile)
        assert torch.equal(first(model), expected)
        handle.remove()
        assert torch.equal(in_a_thread(lambda: first(model)), expected)
        assert torch.equal(first(model), expected)
    assert refused
    assert all("runs in another thread" in str(error) for error in refused)
    assert_free(model)


def test_a_forward_inside_of_another_is_steered_by_its_own_padding_and_leaves_the_outer_one_alone():
    model = llama()
    rows = padded([torch.tensor([7, 8, 9]), torch.tensor([9])])
    inner = {"input_ids": torch.tensor([[11, 12, 13], [7, 7, 8]])}
    found = []

    def again(_module, _args):
        if not found:
            found.append(None)
            found[0] = model(**inner).logits

    def states():
        layers = locate_blocks(model).layers
        with capture(layers, lambda hidden: hidden.clone()) as captured:
            logits = model(**rows).logits
        return logits, captured.values[2]

    with steer(model, artifact(model)), torch.no_grad():
        expected, expected_inner = states(), model(**inner).logits
        handle = model.model.layers[1].register_forward_pre_hook(again)
        logits, hidden = states()
        handle.remove()
    assert torch.equal(found[0], expected_inner)
    assert torch.equal(logits, expected[0])
    assert torch.equal(hidden, expected[1])  # padding, too, which the inner forward has none of


def test_a_gated_forward_inside_of_another_is_refused():
    model = llama()

    def again(_module, _args):
        model(IDS)

    with steer(model, artifact(model, gated=True)), torch.no_grad():
        expected = first(model)
        handle = model.model.layers[1].register_forward_pre_hook(again)
        with pytest.raises(ModelError, match="inside of its own forward"):
            model(IDS)
        handle.remove()
        assert torch.equal(first(model), expected)


@pytest.mark.parametrize("gated", GATES)
@pytest.mark.parametrize("convert", [lambda model: model.half(), lambda model: model.double(), lambda m: m.to("meta")])
def test_a_model_that_is_moved_or_converted_in_the_block_is_refused(gated, convert):
    model = llama()
    with steer(model, artifact(model, gated)):
        first(model)
        convert(model)
        with pytest.raises(ModelError, match=r"was torch\.float32 on cpu when the block was entered"):
            model(IDS)
        if convert(model).device.type != "meta":
            model.float()
            assert first(model).isfinite().all()
    assert_free(model)


@pytest.mark.parametrize("gated", GATES)
def test_one_steering_is_entered_again_once_it_was_left_but_not_inside_of_itself(gated):
    model = llama()
    before = first(model)
    steering = steer(model, artifact(model, gated))
    for _ in range(2):
        with steering as found:
            assert found is model
            once = first(model)
            with pytest.raises(ModelError, match="entered a second time"), steering:
                pass
            assert torch.equal(first(model), once)
        assert torch.equal(first(model), before)
        assert not torch.equal(once, before)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    with pytest.raises(ArtifactError, match="fitted on other weights"), steering:
        pass
    with pytest.raises(ZeroDivisionError), steer(model, artifact(model, gated)):
        raise ZeroDivisionError
    assert_free(model)


def without_the_second(how):
    """A model that leaves its second block out, or calls it where no hook sees it."""

    class Decoder(LlamaModel):
        def forward(self, input_ids=None, **kwargs):
            layer = self.layers[1]
            instead = torch.nn.Module()
            instead.forward = layer.forward if how == "bypassed" else lambda hidden, **_: hidden
            self.layers[1] = instead
            try:
                return super().forward(input_ids, **kwargs)
            finally:
                self.layers[1] = layer

    model = llama()
    model.model.__class__ = Decoder
    return model


@pytest.mark.parametrize("how", ["skipped", "bypassed"])
@pytest.mark.parametrize("gated", GATES)
def test_a_block_that_does_not_take_part_is_named_after_the_first_forward(how, gated):
    model = without_the_second(how)
    named = r"layers\.1 \(LlamaDecoderLayer\)"
    with steer(model, artifact(model, gated)), torch.no_grad():
        for _ in range(2):
            with pytest.raises(ModelError, match=named):
                model(IDS)
    assert_free(model)


def test_a_block_that_a_compiled_model_leaves_out_is_named_at_the_end():
    model = llama()
    model.model.layers[1].forward = None
    found = artifact(model)

    class Decoder(LlamaModel):
        def forward(self, input_ids=None, **_kwargs):
            return BaseModelOutput(self.layers[0].mlp(self.embed_tokens(input_ids)))

    model.model.__class__ = Decoder
    model.model.compile(backend="eager")
    with pytest.raises(ModelError, match="3 of 3 steered modules did not run"), steer(model, found), torch.no_grad():
        model.model(IDS)
    torch._dynamo.reset()
    assert_free(model)


@dataclasses.dataclass
class Out(ModelOutput):
    hidden_states: torch.Tensor | None = None
    extra: torch.Tensor | None = None


@dataclasses.dataclass
class Foreign:
    hidden_states: torch.Tensor


Named = namedtuple("Named", "states extra")
RIGHT = {
    "tuple": (lambda h: (h, None), lambda o: o[0]),
    "list": (lambda h: [h, None], lambda o: o[0]),
    "named": (lambda h: Named(h, 3), lambda o: o.states + 0 * o.extra),
    "output": (lambda h: Out(h, h), lambda o: o.hidden_states + 0 * o.extra),
    "base": (lambda h: BaseModelOutput(last_hidden_state=h), lambda o: o.last_hidden_state),
    "dict": (lambda h: {"more": 1, "hidden_states": h}, lambda o: o["hidden_states"]),
}
WRONG = {
    "dataclass": (Foreign, lambda o: o.hidden_states),
    "other": (lambda h: {"x": h}, lambda o: o["x"]),
    "set": (lambda h: {h}, lambda o: next(iter(o))),
    "empty": (lambda _h: (), lambda _o: torch.zeros(1, 4, 32)),
}


def returning(wrap, unwrap):
    """A model whose blocks return what `wrap` makes of their states."""
    model = llama()
    for layer in model.model.layers:

        class Block(type(layer)):
            def forward(self, hidden, *args, **kwargs):
                return wrap(
                    super().forward(unwrap(hidden) if type(hidden) is not torch.Tensor else hidden, *args, **kwargs)
                )

        layer.__class__ = Block
    model.model.norm.register_forward_pre_hook(lambda _module, args: (unwrap(args[0]), *args[1:]))
    return model


@pytest.mark.parametrize("gated", GATES)
@pytest.mark.parametrize("kind", RIGHT)
def test_blocks_that_return_a_container_are_steered_and_read_as_others_are(kind, gated):
    plain, model = llama(), returning(*RIGHT[kind])
    found = artifact(plain, gated)
    ids = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}

    def logits(of):
        with capture(locate_blocks(of).layers, lambda hidden: hidden[:, -1].clone()) as captured:
            return of(**ids, logits_to_keep=1).logits, captured.stacked()

    with torch.no_grad():
        with steer(plain, found):
            expected = logits(plain)
        with steer(model, found):
            steered = logits(model)
        assert torch.allclose(steered[0], expected[0], atol=1e-5)
        assert torch.allclose(steered[1], expected[1], atol=1e-5)
        assert not torch.allclose(logits(model)[0], expected[0], atol=1e-3)


@pytest.mark.parametrize("kind", WRONG)
def test_blocks_that_return_anything_else_are_refused_by_both_names_in_fits_and_when_steered(kind):
    model = returning(*WRONG[kind])
    said = r"Block returned a (Foreign|dict|set|tuple) in which no states are found"
    with steer(model, artifact(model)), pytest.raises(ModelError, match=said):
        model(IDS)
    with capture(locate_blocks(model).layers, lambda hidden: hidden), pytest.raises(ModelError, match=said):
        model(IDS)


def test_blocks_that_are_offloaded_to_disk_are_refused_in_words_or_steered_as_others(tmp_path):
    model = llama()
    model.save_pretrained(tmp_path / "model")
    places = {f"model.layers.{layer}": "cpu" for layer in (0, 2)} | {"model.layers.1": "disk"}
    places |= dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"), "cpu")
    offloaded = type(model).from_pretrained(tmp_path / "model", device_map=places, offload_folder=tmp_path / "off")
    found = artifact(model)
    with pytest.raises(ModelError, match=r"layers\.1\.\S+` is not in memory"), steer(offloaded, found):
        pass
    with torch.no_grad():
        with steer(model, found):
            expected = model(IDS).logits
        with steer(offloaded, found, allow_other_weights=True):
            assert torch.allclose(offloaded(IDS).logits, expected, atol=1e-5)


def test_at_strength_zero_no_hook_is_set():
    model = llama()
    with steer(model, artifact(model), strength=0.0):
        assert_free(model)
        copy.deepcopy(model)
