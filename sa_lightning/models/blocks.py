"""Find the decoder blocks of a causal language model, or say which names were tried."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import GenerationMixin

from sa_lightning.errors import ModelError

Site = Literal["residual", "mlp", "attention"]

# What families call them, most common first. OPT has no module for its MLP: its last map writes its output.
SUBMODULES: dict[str, tuple[str, ...]] = {
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe", "ff", "moe", "fc2"),
    "attention": ("self_attn", "self_attention", "attn", "attention", "linear_attn", "temporal_block", "mixer"),
}
# Where the module adds the stream to what it computed, so that only the map inside writes what is meant.
WRITERS: dict[str, dict[str, str]] = {
    "BloomBlock": {"mlp": "mlp.dense_4h_to_h", "attention": "self_attention.dense"},
    "MptBlock": {"mlp": "ffn.down_proj"},
}


@dataclass(frozen=True)
class Blocks:
    """The decoder of a causal language model and its blocks, first to last.

    Blocks count from 0, and a block's state is what it writes: `hidden_states[l + 1]` of transformers,
    except behind the last block, where transformers reports the state after the final norm.

    Attributes:
        decoder: The module that maps token ids to the residual stream; it holds the blocks
            and the final norm, but not the LM head.
        layers: The decoder blocks; `layers[l]` writes `resid_post` of layer l.
        path: Where they are in the model, such as `model.layers`.
        callers: The modules on the way from the model to the decoder, the model first.
    """

    decoder: nn.Module
    layers: nn.ModuleList
    path: str = ""
    callers: tuple[nn.Module, ...] = ()

    @property
    def generating(self) -> nn.Module:
        """The model whose `generate` runs, under wrappers as those of peft and `torch.compile`."""
        return next((module for module in self.callers if isinstance(module, GenerationMixin)), self.callers[0])

    def at(self, site: Site) -> list[nn.Module]:
        """Return the module of each block whose output is the given site.

        In families that normalise behind attention and MLP (Gemma 2 and 3, OLMo 2) the module's own
        output is meant, before that norm.

        Raises:
            ModelError: If a block has no submodule of a known name.
        """
        if site == "residual":
            return list(self.layers)
        found = []
        for layer, block in enumerate(self.layers):
            kinds = [WRITERS[kind.__name__] for kind in type(block).__mro__ if kind.__name__ in WRITERS]
            writer = kinds[0].get(site) if kinds else None
            if writer is not None:
                found.append(block.get_submodule(writer))
                continue
            names = [name for name in SUBMODULES[site] if hasattr(block, name)]
            if not names:
                raise ModelError(
                    f"Block {layer} ({type(block).__name__}) has no {site} submodule: tried "
                    f"{', '.join(SUBMODULES[site])}.\n"
                    "The site decides where activations are read and written.\n"
                    "Use the residual stream instead, as `--steering.site` and `--steering.capture_site`."
                )
            found.append(getattr(block, names[0]))
        return found


def locate_blocks(model: nn.Module, path: str | None = None) -> Blocks:
    """Find the decoder blocks by their number, or at a given path.

    The blocks are the `ModuleList` whose length is the `num_hidden_layers` of the text config; among
    several, one whose elements the model declares in `_no_split_modules` wins, then the one
    nearest to the root. The decoder is the module that holds this list. Verified on the families in
    the README, also through a `PeftModel`.

    Args:
        model: A causal language model.
        path: Where the blocks are, such as `model.layers`, for models in which the search finds none or
            the wrong ones; the beginning may be left out, as through a wrapper.

    Raises:
        ModelError: If there is no list of that length, or none at that path; the message names those seen.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    seen = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
    if path is not None:
        found = [name for name in lists if name == path or name.endswith("." + path)]
        if not found:
            raise ModelError(
                f"No list of decoder blocks at `{path}` in {type(model).__name__}; module lists seen: {seen}.\n"
                "Activations are read and steered at the blocks.\n"
                "Mend `--model.blocks`, or leave it out to find them by their number."
            )
        return _blocks(model, lists, min(found, key=len))
    config: Any = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    depth = getattr(text, "num_hidden_layers", None)
    if depth is None:
        raise ModelError(
            f"{type(model).__name__} has no `config.num_hidden_layers`; module lists seen: {seen}.\n"
            "Decoder blocks are found by their number.\n"
            "Pass a Hugging Face causal language model, or say where the blocks are: `--model.blocks model.layers`."
        )
    candidates = [name for name, module in lists.items() if len(module) == depth]
    if not candidates:
        raise ModelError(
            f"No list of {depth} decoder blocks in {type(model).__name__}; module lists seen: {seen}.\n"
            "Activations are read and steered at the blocks, of which the config says there are so many.\n"
            "If one of these lists holds them, say so: `--model.blocks model.layers`."
        )
    declared = set(getattr(model, "_no_split_modules", None) or ())
    language = getattr(getattr(model, "model", None), "language_model", None)  # of a multimodal model

    def order(name: str) -> tuple[bool, bool, int]:
        names = {kind.__name__ for kind in type(lists[name][0]).__mro__}  # wrappers such as FSDP make subclasses
        beside = language is not None and all(module is not lists[name] for module in language.modules())
        return beside, not names & declared, name.count(".")

    return _blocks(model, lists, min(candidates, key=order))


def _blocks(model: nn.Module, lists: dict[str, nn.ModuleList], name: str) -> Blocks:
    parts = name.split(".")[:-1]
    way = [model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) + 1)]
    return Blocks(decoder=way[-1], layers=lists[name], path=name, callers=tuple(way[:-1]))
