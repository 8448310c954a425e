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
from sa_lightning.surgery.checkpoints.slices import Slice, matrix, slices
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.scope import EMBEDDING, LAYER, NORM, Scope, layer_of, stores_input_first

__all__ = ["RankOne", "read_direction"]

SUFFIX = r"(\.weight|\.bias|_bias)?$"
WRITER = re.compile(
    r"(^|\.)(o_proj|out_proj|down_proj|fc2|wo|w2|(?:self_|self_attn\.|attn\.)?attention\.dense|(?:self_)?attn\.dense|"
    rf"dense_4h_to_h|c_proj|fc_out|ff_out|output_linear){SUFFIX}"
)
# What reads the stream, or works between the two: of blocks, all else with a dimension of the stream's is refused.
READER = re.compile(
    r"(^|\.)((?:[qkv]|qkv|qkvz|ba|[qk]_b|g|gate|up|gate_up|att|ff|in|kv_b|x|dt)_proj\w*|[qk]v?_a_proj\w*|query_key_value|"
    r"c_attn|c_fc|q_attn|W_?(?:qkv|pack)|wqkv|w[13qkv]|v1|fc1|fc_in|input_linear|dense_h_to_4h|router|router\.\w+|"
    rf"gate|mlp\.gate|wg|shared_expert_gate|e_score_correction_bias|conv1d|conv|A_log|D|rotary\w*){SUFFIX}"
)
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
            says: embeddings tied to the head, a normalisation behind the writers, or what is no known writer and no
            known reader.
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
        everything = self.scope.names(target)
        self.names: tuple[str, ...] = tuple(name for name in everything if self._writes(name))
        self._conv = self._stores_input_first(config or {})
        self._refuse_unknown(everything)
        self._check(config or {})
        formed = "r rᵀ target" if kind == "projection" else "r (mean row of target)ᵀ"
        self.formula: str = f"{formed}, {self._writers()}"
        self._along: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.target.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """Some rows of r rᵀ W, or of r w̄ᵀ; of experts in one tensor, of each by itself."""
        if self._stream_last(piece.name):
            weight = self.target.rows(piece).float()
            along = weight @ self.direction if self.kind == "projection" else weight.mean(1)
            return torch.outer(along, self.direction)
        places = torch.arange(piece.first, piece.last)
        along = self._along_each(piece.name)[places // self.width]
        return self.direction[places % self.width, None] * along

    def factors(self, name: str) -> tuple[Tensor, Tensor] | None:
        """The column and the row whose product the delta of a matrix is; None of what is no matrix."""
        shape = self.shape(name)
        if len(shape) != 2:
            return None
        if self._stream_last(name):
            along = torch.cat([self.rows(piece) @ self.direction for piece in slices(name, shape)])
            return along[:, None], self.direction[None]
        return self.direction[:, None], self._along_each(name)

    def _along_each(self, name: str) -> Tensor:
        """The row rᵀ W, or w̄ᵀ, of each matrix whose rows are the stream's dimensions, (matrices, columns); once."""
        with self._lock:
            if name not in self._along:
                rows, columns = matrix(self.shape(name))
                total = torch.zeros(rows // self.width, columns)
                factor = self.direction if self.kind == "projection" else torch.full((self.width,), 1 / self.width)
                for piece in slices(name, self.shape(name)):
                    places = torch.arange(piece.first, piece.last)
                    weight = self.target.rows(piece).float() * factor[places % self.width, None]
                    total.index_add_(0, places // self.width, weight)
                self._along[name] = total
            return self._along[name]

    def _writes(self, name: str) -> bool:
        if self.kind == "injection":
            return bool(WRITER.search(name)) and not name.endswith("bias")
        return bool(WRITER.search(name) or EMBEDDING.search(name))

    def _stream_last(self, name: str) -> bool:
        """Whether the stream's dimensions are the last of a parameter, not those before."""
        shape = self.shape(name)
        if EMBEDDING.search(name) or len(shape) == 1:
            return len(shape) > 1
        if name.endswith("bias") or shape[-2] != self.width:
            return True
        return shape[-1] == self.width and ("c_proj" in name and self._conv)

    def _stores_input_first(self, config: dict[str, Any]) -> bool:
        """Whether matrices called c_proj are stored (in, out), as in GPT-2, or (out, in), as in most others."""
        shapes = [self.shape(name) for name in self.names if "c_proj" in name and len(self.shape(name)) == 2]
        known = [shape[-1] == self.width for shape in shapes if shape[0] != shape[1]]
        return all(known) if known else stores_input_first(config)

    def _refuse_unknown(self, names: list[str]) -> None:
        """Refuse what may write to the stream, by its shape, and is not known by its name."""
        for name in names:
            shape = self.shape(name)
            if layer_of(name) is None or self.width not in shape or WRITER.search(name) or READER.search(name):
                if len(shape) == 3 and shape[-1] == shape[-2] and name in self.names:
                    raise SettingError(
                        f"`{name}` of {self.target.source} has shape {shape}, so that it does not show which side "
                        "writes to the stream.\nProjected on the wrong one, the direction would stay.\n"
                        "Ablate it in the activations instead."
                    )
                continue
            if not NORM.search(name):
                raise SettingError(
                    f"`{name}` of {self.target.source} has shape {shape}, so it may write to the residual stream, and "
                    "is not known by its name.\nIf it does, the direction would stay in the stream.\n"
                    f"Ablate it in the activations; or, if it only reads, leave it out: `scope.exclude: ['{name}']`."
                )

    def _writers(self) -> str:
        """Say what is changed, block by block."""
        blocks: dict[int, set[str]] = {}
        for name in self.names:
            found, layer = WRITER.search(name), layer_of(name)
            if found is not None and layer is not None:
                inside = LAYER.split(name[: found.end(2)], maxsplit=1)[-1]
                way = [part for part in inside.split(".") if not part.isdigit()]  # of experts, one name
                blocks.setdefault(layer, set()).add(".".join(way[-2:]))
        counts = sorted({len(found) for found in blocks.values()})
        kinds = ", ".join(sorted({kind for found in blocks.values() for kind in found}))
        often = " to ".join(map(str, sorted({counts[0], counts[-1]}))) if counts else "0"
        return f"{often} writers in each of {len(blocks)} blocks ({kinds})"

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
            if shape[-1 if self._stream_last(name) else max(0, len(shape) - 2)] != self.width:
                raise SettingError(
                    f"`{name}` has shape {shape} in {self.target.source}, but the direction has {self.width} entries.\n"
                    "It must be of this model's residual stream.\n"
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
