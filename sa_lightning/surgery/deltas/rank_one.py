"""Rank-one deltas: one direction of the residual stream, in every matrix that writes to it."""

import math
import re
import threading
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import CheckpointError, SettingError
from sa_lightning.surgery.checkpoints.shard import Shard
from sa_lightning.surgery.checkpoints.slices import Slice, slices
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.scope import EMBEDDING, Scope

__all__ = ["RankOne", "read_direction"]

BLOCK_WRITERS = (
    r"(o_proj|out_proj|down_proj|fc2|wo|w2|attention\.dense|self_attention\.dense|dense_4h_to_h|c_proj|fc_out|ff_out)"
)
WRITER = re.compile(rf"(^|\.){BLOCK_WRITERS}\.(weight|bias)$")
OUTPUT_LAST = re.compile(r"(^|\.)c_proj\.weight$")  # GPT-2 stores (in, out)
NORM_BEHIND = re.compile(r"(post_feedforward_layernorm|post_mlp_layernorm|word_embeddings_layernorm)\.weight$")
FILE = "steering.safetensors"


class RankOne:
    """A direction's share in what the model writes to the stream, or a share of it to be added.

    `projection`: r rᵀ W, so that to subtract it once is weight orthogonalisation: nothing that the matrices
    write has a component along r any more (Arditi et al., https://arxiv.org/abs/2406.11717).
    `injection`: r w̄ᵀ with w̄ the mean row of W, so that to add it pushes the stream along r wherever
    the matrix writes at all (ROSI, https://arxiv.org/abs/2508.20766, which leaves its strength open).

    The writers are the output projections of attention and MLP, experts included, with their
    biases; to project, the embeddings too. Formed from the target's own weights in float32.

    Args:
        target: The weights that are to be edited.
        direction: Of the residual stream, of any length; it is normalised.
        kind: What is formed.
        scope: Which parameters are meant; what is no writer is left out.
        config: The model's `config.json`.

    Raises:
        SettingError: If the direction has another width than the stream, or if the edit would not do what it
            says: embeddings tied to the head, a normalisation behind the writers, fused experts.
    """

    def __init__(
        self,
        target: Weights,
        direction: Float[Tensor, " d_model"],
        kind: Literal["projection", "injection"] = "projection",
        scope: Scope | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.target, self.kind = target, kind
        self.scope = scope or Scope()
        wide = direction.float()
        self.direction: Tensor = wide / wide.norm()  # pyright: ignore[reportUnknownMemberType]
        self.width = len(direction)
        self.inputs: dict[str, Weights] = {"target": target}
        self.formula: str = "r rᵀ target" if kind == "projection" else "r (mean row of target)ᵀ"
        self.names: tuple[str, ...] = tuple(name for name in self.scope.names(target) if self._writes(name))
        self._check(config or {})
        self._along: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.target.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """Some rows of r rᵀ W, or of r w̄ᵀ."""
        if self._output_last(piece.name):
            weight = self.target.rows(piece).float()
            along = weight @ self.direction if self.kind == "projection" else weight.mean(1)
            return torch.outer(along, self.direction)
        return torch.outer(self.direction[piece.first : piece.last], self._row(piece.name))

    def _row(self, name: str) -> Tensor:
        """The row rᵀ W, or w̄ᵀ, of a matrix whose rows are the stream's dimensions; formed once."""
        with self._lock:
            if name not in self._along:
                total: Tensor | float = 0.0
                for piece in slices(name, self.shape(name)):
                    weight = self.target.rows(piece).float()
                    factor = self.direction[piece.first : piece.last]
                    if self.kind == "injection":
                        factor = torch.full_like(factor, 1 / self.width)
                    total = total + factor @ weight
                assert isinstance(total, Tensor)
                self._along[name] = total
            return self._along[name]

    def _writes(self, name: str) -> bool:
        if self.kind == "injection":
            return bool(WRITER.search(name)) and name.endswith(".weight")
        return bool(WRITER.search(name) or EMBEDDING.search(name))

    def _output_last(self, name: str) -> bool:
        return bool(OUTPUT_LAST.search(name) or EMBEDDING.search(name))

    def _check(self, config: dict[str, Any]) -> None:
        if not math.isfinite(float(self.direction.sum())):
            raise SettingError("The direction is zero or not finite, so it points nowhere.")
        behind = [name for name in self.target.names if NORM_BEHIND.search(name)]
        if behind and self.kind == "projection":
            raise SettingError(
                f"{self.target.source} normalises what its blocks write (`{behind[0]}`), which can put the direction "
                "back, so projecting it out of the weights would not keep it out of the stream.\n"
                "Ablate it in the activations instead."
            )
        tied = [name for name in self.names if EMBEDDING.search(name) and self._tied(name, config)]
        if tied:
            raise SettingError(
                f"`{tied[0]}` of {self.target.source} is tied to the output head: projecting the direction out of one "
                "would change what the other reads, and so the logits.\n"
                "Leave it alone with `scope.embeddings: false`, or untie the checkpoint first."
            )
        for name in self.names:
            shape = self.shape(name)
            if len(shape) > 2 or shape[-1 if self._output_last(name) else 0] != self.width:
                raise SettingError(
                    f"`{name}` has shape {shape} in {self.target.source}, but the direction has {self.width} entries.\n"
                    "It must be of this model's residual stream; fused experts are not supported.\n"
                    f"Give another direction, or leave the parameter out: `scope.exclude: ['{name}']`."
                )
        if not self.names:
            raise SettingError(
                f"No matrix of {self.target.source} in scope writes to the residual stream, by its name.\n"
                "Known are the output projections of attention and MLP, and embeddings. Widen `scope`."
            )

    def _tied(self, name: str, config: dict[str, Any]) -> bool:
        if name in self.target.aliases.values():
            return True
        heads = [n for n in self.target.names if re.search(r"(^|\.)(lm_head|embed_out|output)\.weight$", n)]
        tokens = not re.search(r"(wpe|embed_positions)\.weight$", name)
        return tokens and not heads and bool(config.get("tie_word_embeddings", True))


def read_direction(path: str | Path, layer: int | None = None) -> Float[Tensor, " d_model"]:
    """Read a direction from a steering artifact (its directory, or `steering.safetensors`) or any such file.

    Args:
        path: Directory or safetensors file.
        layer: Which block's direction, fitted on the original weights; not needed where there is only one. Of an
            artifact without a rule of pairs, that of its rule, if it has one rule.

    Raises:
        CheckpointError: If the file or the layer is not there.
    """
    place = Path(path).expanduser()
    file = Shard(place / FILE if place.is_dir() else place)
    names = [n for n in file.tensors if len(file.tensors[n].shape) == 1 and not n.endswith(".gate")]
    wanted = names
    if layer is not None:
        key = f"original.layers.{layer}.direction"
        of_rule = re.compile(rf"(?:rules|parts)\.[\w-]+\.{re.escape(key)}")  # artifacts of before have parts
        wanted = [n for n in names if n == key] or [n for n in names if of_rule.fullmatch(n)]
    if len(wanted) != 1:
        raise CheckpointError(
            f"{path} holds {len(names)} directions ({', '.join(names[:4])}{', …' if len(names) > 4 else ''}), and "
            f"`direction_layer` is {layer}.\nOne direction is projected out of all matrices.\n"
            "Say whose it is: `--direction_layer 12`, from 0; of several rules beside none of pairs, none can be told."
        )
    return file.read(wanted[0]).float()
