"""Attention heads as a selection: what they write into the stream."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.scope import layer_of, stores_input_first
from sa_lightning.surgery.selection.kind import SelectionKind
from sa_lightning.surgery.selection.top_k import entries

__all__ = ["HEADS", "HeadMask"]

OUTPUT = re.compile(r"(^|\.)(self_attn|self_attention|attn|attention)\.(o_proj|out_proj|dense|c_proj|wo)\.weight$")


class HeadMask:
    """The entries of the attention output projections that read the heads of a list.

    These are the columns of `o_proj` (rows, where a model stores it the other way round) that belong
    to each head. Soteria (https://arxiv.org/abs/2502.11244) takes the harm vector there, in the heads that
    carry a language, in place of the entries of largest magnitude.

    Args:
        heads: Heads by block, both counted from 0.
        delta: What is selected from.
        config: The model's `config.json`, for the number of heads and their size.

    Raises:
        SettingError: If the model says nothing of heads, or has no such block or head in scope.
    """

    factor: float = 1.0
    threshold: float | dict[str, float] | None = None

    def __init__(self, heads: Mapping[int, Sequence[int]], delta: Delta, config: Mapping[str, Any]) -> None:
        text = config.get("text_config") or config
        count = text.get("num_attention_heads") or text.get("n_head")
        named = {name: layer_of(name) for name in delta.names if OUTPUT.search(name)}
        outputs = {layer: name for name, layer in named.items() if layer is not None}
        twice = [name for name, layer in named.items() if layer is not None and outputs[layer] != name]
        if twice:
            raise SettingError(
                f"Block {named[twice[0]]} has two attention output projections in scope, by their names: `{twice[0]}` "
                f"and `{outputs[named[twice[0]] or 0]}`.\n"
                "Heads belong to one. Leave the other out with `scope.exclude`."
            )
        if not count or not outputs:
            raise SettingError(
                "`heads` needs a model whose config.json has `num_attention_heads` and whose attention output "
                f"projections are in scope; found {count} heads and {len(outputs)} projections.\n"
                "A head is a range of columns there. Widen `scope`, or select in another way."
            )
        self._stores_input_first = stores_input_first(text)
        self.heads: dict[str, Tensor] = {}
        self.n: int = entries(delta)
        self.k: int | None = 0
        for layer, chosen in sorted(heads.items()):
            name = outputs.get(layer)
            if name is None or any(not 0 <= head < count for head in chosen):
                raise SettingError(
                    f"`heads` names heads {list(chosen)} of block {layer}, but there are {count} heads in each of the "
                    f"blocks {sorted(outputs)} in scope.\nBoth are counted from 0."
                )
            shape = delta.shape(name)
            inner = shape[0] if self._input_first(name) else shape[1]
            if inner % count:
                raise SettingError(f"`{name}` reads {inner} entries, which {count} heads cannot share.")
            mask = torch.zeros(count, dtype=torch.bool)
            mask[list(chosen)] = True
            self.heads[name] = mask.repeat_interleave(inner // count)
            self.k += int(self.heads[name].sum()) * (math.prod(shape) // inner)

    def keep(self, piece: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice."""
        mask = self.heads.get(piece.name)
        if mask is None:
            return torch.zeros(delta.shape, dtype=torch.bool)
        if self._input_first(piece.name):
            return mask[piece.first : piece.last, None].expand(delta.shape)
        return mask.expand(delta.shape)

    def _input_first(self, name: str) -> bool:
        return self._stores_input_first and name.endswith(".c_proj.weight")


HEADS = SelectionKind(
    lambda delta, asked: HeadMask(asked.heads, delta, asked.config), setting="heads", example="{5: [0, 3]}"
)
