"""Find the decoder blocks of a causal language model, or say which names were tried."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from sa_lightning.errors import ModelError

Site = Literal["residual", "mlp", "attention"]

SUBMODULES: dict[str, tuple[str, ...]] = {
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe", "ff"),
    "attention": ("self_attn", "self_attention", "attn", "attention"),
}


@dataclass(frozen=True)
class Blocks:
    """The decoder of a causal language model and its blocks, first to last.

    Attributes:
        decoder: The module that maps token ids to the residual stream; it holds the blocks
            and the final norm, but not the LM head.
        layers: The decoder blocks; `layers[l]` writes `resid_post` of layer l.
    """

    decoder: nn.Module
    layers: nn.ModuleList

    def at(self, site: Site) -> list[nn.Module]:
        """Return the module of each block whose output is the given site.

        Raises:
            ModelError: If a block has no submodule of a known name.
        """
        if site == "residual":
            return list(self.layers)
        found = []
        for layer, block in enumerate(self.layers):
            names = [name for name in SUBMODULES[site] if hasattr(block, name)]
            if not names:
                raise ModelError(
                    f"Block {layer} ({type(block).__name__}) has no {site} submodule: tried "
                    f"{', '.join(SUBMODULES[site])}.\n"
                    "The site decides where activations are read and written.\n"
                    "Use the residual stream instead: `--steering.site residual`."
                )
            found.append(getattr(block, names[0]))
        return found


def locate_blocks(model: nn.Module) -> Blocks:
    """Find the decoder blocks by their number, not by their path.

    The blocks are the `ModuleList` whose length is the `num_hidden_layers` of the text config; among
    several, one whose elements the model declares in `_no_split_modules` wins, then the one
    nearest to the root. The decoder is the module that holds this list. Verified on 18
    families of transformers 5, also through a `PeftModel`.

    Raises:
        ModelError: If the config has no number of layers or no list of that length exists.
    """
    config: Any = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    depth = getattr(text, "num_hidden_layers", None)
    if depth is None:
        raise ModelError(
            f"{type(model).__name__} has no `config.num_hidden_layers`.\n"
            "Decoder blocks are found by their number.\n"
            "Pass a Hugging Face causal language model."
        )
    declared = set(getattr(model, "_no_split_modules", None) or ())
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    candidates = [name for name, module in lists.items() if len(module) == depth]
    if not candidates:
        seen = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
        raise ModelError(
            f"No list of {depth} decoder blocks in {type(model).__name__}; module lists seen: {seen}.\n"
            "Activations are read and steered at the blocks.\n"
            "This architecture is not supported yet."
        )
    name = min(
        candidates,
        key=lambda name: (type(lists[name][0]).__name__ not in declared, name.count(".")),
    )
    decoder = model.get_submodule(name.rpartition(".")[0])
    return Blocks(decoder=decoder, layers=lists[name])
