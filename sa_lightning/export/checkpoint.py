"""Constant steps baked into a checkpoint: into biases that are there, or that the family's config can switch on."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

from sa_lightning.errors import ModelError
from sa_lightning.export.acts import Act
from sa_lightning.export.formats import elsewhere
from sa_lightning.models import Blocks, locate_blocks, quantization_of
from sa_lightning.surgery.deltas.rank_one import NORM_BEHIND, WRITER

#: Families whose weights mean the same as a Llama's, which has switches for biases.
TWINS = ("qwen2", "mistral")
#: What is copied into the config of the twin.
SAME = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings", "rope_parameters", "attention_dropout"),
)


def baked(model: Any, acts: Sequence[Act], path: str | None = None) -> Any:
    """Return a model with its weights, and steps in the biases of what writes to the stream.

    Behind a block a step may as well be the bias of its MLP: nothing comes between. The model itself is left as it is;
    weights are shared, biases are not.

    Args:
        model: Of transformers, with the weights that are meant.
        acts: Steps, one a place.
        path: Of the decoder blocks, where they are not found by their number.

    Raises:
        ModelError: If the family has no place for a step: no bias and no switch for one, experts, a norm behind.
    """
    way = f"Leave the weights as they are: `--to` {', '.join(elsewhere(acts, ['checkpoint']))}."
    if quantised := quantization_of(model):
        raise ModelError(
            f"The weights are quantised ({quantised}).\nA bias beside packed weights is no part of their format.\n"
            + way
        )
    names, text = {module: name for name, module in model.named_modules()}, model.config.get_text_config(decoder=True)
    steps: dict[str, Tensor] = {}
    for act in acts:
        name = f"{names[_writer(model, names, act, path, way)]}.bias"
        shrunk = getattr(text, "residual_multiplier", None) if act.site == "residual" else None  # of what is added
        steps[name] = act.step / float(shrunk or 1.0)
    state: dict[str, Tensor] = dict(model.state_dict())
    config, family = _config(model, [name for name in steps if name not in state], {act.site for act in acts})
    with torch.device("meta"):
        found: Any = family(config)
    dtype = next(model.parameters()).dtype
    for name, meta in found.state_dict().items():
        if name not in state and name.endswith(".bias"):
            state[name] = torch.zeros(meta.shape, dtype=dtype)
    if odd := sorted((found.state_dict().keys() ^ state.keys()) | (steps.keys() - state.keys())):
        raise ModelError(
            f"{type(model).__name__} has no bias at {len(odd)} places where a step would be one, such as `{odd[0]}`.\n"
            "Its config has no switch for them, and its weights mean something else to a Llama, which has.\n" + way
        )
    for name, step in steps.items():
        state[name] = (state[name].float() + step.to(state[name].device)).to(dtype)
    found.load_state_dict(state, assign=True)
    for name, buffer in found.named_buffers():  # what is not stored, such as frequencies of positions
        if buffer.is_meta:
            place, _, last = name.rpartition(".")
            setattr(found.get_submodule(place), last, model.get_buffer(name))
    found.tie_weights()
    found.generation_config = deepcopy(model.generation_config)
    return found.eval().requires_grad_(False)


def write_checkpoint(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write a model with its tokenizer as a Hugging Face directory."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _writer(model: Any, names: Mapping[nn.Module, str], act: Act, path: str | None, way: str) -> nn.Module:
    """The matrix whose bias is added to the stream where an act is.

    Raises:
        ModelError: If there is none, several, or a norm behind it.
    """
    blocks: Blocks = locate_blocks(model, path)
    block = blocks.layers[act.layer]
    behind = [name for name, _ in block.named_modules() if NORM_BEHIND.search(f"{name}.weight")]
    if act.site == "residual" and behind:
        raise ModelError(
            f"{type(block).__name__} normalises what it adds to the stream (`{behind[0]}`).\n"
            "A bias before that norm is no constant step behind it.\n" + way
        )
    module = blocks.at("attention" if act.site == "attention" else "mlp")[act.layer]
    if isinstance(module, nn.Linear | Conv1D):
        return module
    inside = [one for one in module.modules() if isinstance(one, nn.Linear | Conv1D)]
    found = [one for one in inside if WRITER.search(f"{names[one]}.weight")]
    if len(found) != 1:
        raise ModelError(
            f"{type(module).__name__} has {len(found)} matrices that write to the stream, not one.\n"
            "A step is the bias of one: those of experts are added by their weights.\n" + way
        )
    return found[0]


def _config(model: Any, missing: Sequence[str], sites: set[str]) -> tuple[PretrainedConfig, Callable[..., Any]]:
    """The config of the baked model, with switches for the biases that are missing, and its class."""
    config: Any = deepcopy(model.config)
    family: Callable[..., Any] = type(model)
    if missing and config.model_type in TWINS and not _forgets(config):
        given = {name: getattr(config, name) for name in SAME if hasattr(config, name)}
        biased = "model.layers.0.self_attn.q_proj.bias" in model.state_dict()
        config, family = LlamaConfig(**given, attention_bias=biased, dtype=config.dtype), LlamaForCausalLM
        config.architectures = [LlamaForCausalLM.__name__]
    text = config.get_text_config(decoder=True)
    for wanted, switch in ((sites - {"attention"}, "mlp_bias"), (sites & {"attention"}, "attention_bias")):
        if missing and wanted and hasattr(text, switch):
            setattr(text, switch, True)
    return config, family


def _forgets(config: Any) -> bool:
    """Whether attention does not reach back to the beginning, as a Llama's does."""
    window = getattr(config, "sliding_window", None)
    asked = getattr(config, "use_sliding_window", True)
    return bool(asked and window is not None and window < config.max_position_embeddings)
