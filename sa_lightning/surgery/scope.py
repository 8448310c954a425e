"""Scope: which parameters may change at all."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from sa_lightning.errors import NothingToDoError, SettingError
from sa_lightning.surgery.checkpoints.weights import Weights

__all__ = ["Granularity", "Scope", "group_of", "layer_of"]

Granularity = Literal["global", "layer", "tensor"]

LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
# Before the number of the block: what is no decoder, though its blocks are numbered, too. Towers for images and sound,
# what leads from them into the stream, and heads that only guess at further tokens.
TOWER = re.compile(
    r"(^|\.)((vision|visual|image|img|video|audio|speech|sound|vit|vpm|vq|mm|multi_modal|perceiver|resampler|qformer|"
    r"connector|aligner|sam|protein|mtp)(_\w+)?|vqmodel|mlp1|embed_(vision|audio)|language_projection|\w+_projector)(\.|$)"
)
SAVED_BUFFER = re.compile(r"(rotary_emb\.inv_freq|\.masked_bias)$")  # in older checkpoints
MASK_BUFFER = re.compile(r"(attn|attention)\.bias$")  # GPT-2's causal mask, 4-dimensional
EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|wpe|word_embeddings|embed_in|embed_positions|shared)\.weight$")
HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.(weight|bias)$")
NORM = re.compile(r"(^|[._])(\w*norm\w*|ln_\w+|ln\d*)\.(weight|bias)$")
INPUT_FIRST = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")  # whose layers are transformers' Conv1D
UNSTORED = ("lm_head.weight",)  # tied checkpoints leave it out; excluding it is no mistake


@dataclass(frozen=True)
class Scope:
    """Which parameters may change; everything else stays bit-identical.

    Only floating-point parameters are ever in scope. A tied tensor goes by its canonical name,
    that of the input embedding: to leave it alone, exclude `*embed_tokens*`. The paper does not
    state a scope; the authors' code takes every tensor, embeddings and norms included.

    Args:
        include: Patterns of names that may change, with `*` and `?` as in a shell. A name needs
            to match one of them.
        exclude: Patterns of names that stay as they are, even if included.
        layers: First and last decoder block that may change, counted from 0, both included.
            What belongs to no block (embeddings, final norm, head) then stays as it is.
            By default, everything.
        edit_area: For a knowledge-edited target: only the blocks in which it differs from the base
            may change, and those right before and after them (the paper's Eq. 11-12).
        outside: What happens outside the edit area: nothing, or a step along the whole delta, whatever is selected
            inside, as in the authors' code, by mistake.
        embeddings: Whether token and position embeddings may change.
        norms: Whether normalisation weights may change.
        lm_head: Whether the output head may change; one that is tied to the embeddings goes with them.
        towers: Whether the parts of a multimodal model beside its language model may change: towers for images and
            sound, with what leads from them into the stream; and heads that predict further tokens.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    layers: tuple[int, int] | None = None
    edit_area: bool = False
    outside: Literal["untouched", "whole"] = "untouched"
    embeddings: bool = True
    norms: bool = True
    lm_head: bool = True
    towers: bool = False
    blocks: ClassVar[frozenset[int] | None] = None  # no setting: the edit area, once it is known

    def __post_init__(self) -> None:
        """Refuse a layer span that cannot hold anything."""
        # A YAML list is welcome, too.
        object.__setattr__(self, "include", tuple(self.include))
        object.__setattr__(self, "exclude", tuple(self.exclude))
        if not self.include:
            raise SettingError("`scope.include` is empty, so nothing may change. Write `['*']`.")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))
            first, last = self.layers
            if not 0 <= first <= last:
                raise SettingError(
                    "`scope.layers` is the first and last block, counted from 0, but is "
                    f"[{first}, {last}]. To take blocks 4 to 6, write [4, 6]."
                )

    def contains(self, name: str) -> bool:
        """Whether a parameter of this name may change."""
        if not any(fnmatchcase(name, pattern) for pattern in self.include):
            return False
        if any(fnmatchcase(name, pattern) for pattern in self.exclude):
            return False
        for allowed, kind in ((self.embeddings, EMBEDDING), (self.lm_head, HEAD), (self.norms, NORM)):
            if not allowed and kind.search(name):
                return False
        if not self.towers and in_tower(name):
            return False
        layer = layer_of(name)
        if self.layers is not None and not (layer is not None and self.layers[0] <= layer <= self.layers[1]):
            return False
        if self.edit_area and self.blocks is None:
            raise RuntimeError("The edit area is not known before `edit_area.resolve`.")
        return self.blocks is None or layer in self.blocks or self.outside == "whole"

    def within(self, blocks: frozenset[int]) -> "Scope":
        """The same scope, in these blocks only."""
        narrowed = dataclasses.replace(self)
        object.__setattr__(narrowed, "blocks", blocks)
        return narrowed

    def select(self, weights: Weights) -> list[str]:
        """The names in scope, in the order of `weights.names`, without judging the patterns."""
        return [n for n in weights.names if is_parameter(weights, n) and self.contains(n)]

    def names(self, weights: Weights) -> list[str]:
        """The names in scope, in the order of `weights.names`.

        Raises:
            NothingToDoError: If a pattern matches no parameter, or if nothing is in scope.
        """
        parameters = [name for name in weights.names if is_parameter(weights, name)]
        known = [*parameters, *weights.aliases]
        for option, patterns, names in (
            ("include", self.include, parameters),
            ("exclude", self.exclude, [*known, *UNSTORED]),
        ):
            for pattern in patterns:
                if not any(fnmatchcase(name, pattern) for name in names):
                    raise NothingToDoError(
                        f"`scope.{option}` has '{pattern}', which matches no parameter of "
                        f"{weights.source}.\nNames there look like `{_example(parameters)}`; "
                        "`*` stands for any text."
                    )
        chosen = [name for name in parameters if self.contains(name)]
        if not chosen:
            raise NothingToDoError(
                f"Nothing of {weights.source} is in scope: include {list(self.include)}, exclude "
                f"{list(self.exclude)}, layers {_span(self)}{_switched_off(self, parameters)} leave none of its "
                f"{len(parameters)} parameters.\nWiden the scope. {_layers_there(parameters)}"
            )
        return chosen


def layer_of(name: str) -> int | None:
    """The decoder block that a parameter belongs to, from 0; none for embeddings, towers and the like.

    Example:
        >>> layer_of("model.layers.12.mlp.up_proj.weight")
        12
        >>> layer_of("model.norm.weight") is None, layer_of("vision_tower.encoder.layers.3.mlp.fc1.weight") is None
        (True, True)
    """
    match = LAYER.search(name)
    return None if match is None or in_tower(name) else int(match[1])


def in_tower(name: str) -> bool:
    """Whether a parameter belongs to no language model, but to what stands beside it (`Scope.towers`)."""
    match = LAYER.search(name)
    return bool(TOWER.search(name if match is None else name[: match.start() + 1]))


def stores_input_first(config: Mapping[str, Any]) -> bool:
    """Whether matrices called `c_proj` are stored (in, out), as in GPT-2 (also where no config says), or (out, in)."""
    return config.get("model_type", "gpt2") in INPUT_FIRST


def group_of(name: str, granularity: Granularity) -> str:
    """What a parameter shares its cut with: all, its layer (`other` for none), or nothing but itself."""
    if granularity == "tensor":
        return name
    if granularity == "layer":
        layer = layer_of(name)
        return "other" if layer is None else str(layer)
    return "global"


def is_parameter(weights: Weights, name: str) -> bool:
    """Whether a stored tensor is a floating-point parameter, not a saved buffer."""
    if not weights.dtype(name).is_floating_point or SAVED_BUFFER.search(name):
        return False
    return not (MASK_BUFFER.search(name) and len(weights.shape(name)) == 4)


def _example(names: list[str]) -> str:
    inside = [name for name in names if layer_of(name) is not None]
    return (inside or names or ["(none)"])[0]


def _span(scope: Scope) -> str:
    span = "all" if scope.layers is None else f"{scope.layers[0]} to {scope.layers[1]}"
    return span if scope.blocks is None else f"{span} within the edit area {sorted(scope.blocks)}"


def _switched_off(scope: Scope, names: list[str]) -> str:
    off = [part for part in ("embeddings", "norms", "lm_head") if not getattr(scope, part)]
    off += ["towers"] if not scope.towers and any(map(in_tower, names)) else []
    return f", without {' and '.join(off)}," if off else ""


def _layers_there(names: list[str]) -> str:
    layers = [layer for name in names if (layer := layer_of(name)) is not None]
    return f"Its blocks are 0 to {max(layers)}." if layers else "Its names show no blocks."
