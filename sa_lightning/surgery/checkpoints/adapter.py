"""A LoRA adapter over its base, read as if it had been merged, one tensor at a time."""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import CheckpointError, CheckpointMismatchError
from sa_lightning.files import Json
from sa_lightning.patterns import first_match
from sa_lightning.surgery.checkpoints.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    INPUT_EMBEDDING,
    OUTPUT_EMBEDDING,
    Checkpoint,
)
from sa_lightning.surgery.checkpoints.shard import Shard
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Digests

__all__ = ["AdaptedCheckpoint"]

FACTOR = re.compile(r"^(?:base_model\.model\.)?(.+)\.lora_(embedding_)?([AB])(?:\.weight)?$")
REFUSED = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "alora_invocation_tokens",
    "arrow_config",
    "use_bdlora",
)
CHANGES_BASE = ("pissa", "olora", "corda", "loftq")  # these write a residual back into the base


class AdaptedCheckpoint(Checkpoint):
    """A checkpoint with a LoRA adapter merged on the fly: W + scale · B A.

    Names, shapes, types and configuration are those of the base. The product and the sum are
    formed in float32, then cast to the base's data type. The scale is alpha / r, or alpha / √r
    with `use_rslora`, per module where `rank_pattern` or `alpha_pattern` says so. LoRA: Hu et
    al., https://arxiv.org/abs/2106.09685.

    Args:
        source: How messages call it.
        path: Directory of the adapter.
        base: What it changes.
        settings: Of adapter_config.json.

    Raises:
        CheckpointError: If it holds what cannot be merged exactly, or one of two factors.
        CheckpointMismatchError: If it was trained on another base.
    """

    def __init__(self, source: str, path: Path, base: Checkpoint, settings: Json) -> None:
        vars(self).update(vars(base))  # its layout, shards, names and configuration
        self.source, self.base, self.adapter_path = source, base, path
        self._fingerprint, self._digests, self._hashed = None, Digests(), []
        self._settings = settings
        shard = Shard(path / ADAPTER_WEIGHTS)
        self._factors = self._find_factors(shard)
        modules = [module for module, *_ in self._factors.values()]
        ranks = self._by_pattern("rank_pattern", modules)
        self._alphas: dict[str, float] = self._by_pattern("alpha_pattern", modules)
        for module, _, key_a, key_b in self._factors.values():
            self._check_rank(module, ranks.get(module, float(settings.get("r", 8))), shard, key_a, key_b)
        self._read_factor = lru_cache(maxsize=8)(shard.read)  # each slice of a weight needs the same two

    @property
    def directories(self) -> tuple[Path, ...]:
        """The base's directories, then the adapter's, whose tokenizer wins."""
        return (*self.base.directories, self.adapter_path)

    @property
    def files(self) -> tuple[Path, ...]:
        """The base's files, and the adapter's."""
        return (*self.base.files, self.adapter_path / ADAPTER_WEIGHTS, self.adapter_path / ADAPTER_CONFIG)

    def _rows(self, piece: Slice) -> Tensor:
        """Form some rows of W + scale · B A, in the base's data type; of W itself where no adapter acts."""
        weight = self.base._rows(piece)
        if piece.name not in self._factors:
            return weight
        module, embedding, key_a, key_b = self._factors[piece.name]
        a, b = self._read_factor(key_a), self._read_factor(key_b)
        flipped = embedding or bool(self._settings.get("fan_in_fan_out"))
        rows = slice(piece.first, piece.last)
        rank = a.shape[0]
        a, b = (a[:, rows], b) if flipped else (a, b[rows])
        return merge_low_rank(weight, a, b, self.scale(module, rank), flipped)

    @property
    def changed(self) -> frozenset[str]:
        """Names on disk of the tensors that the adapter changes."""
        return frozenset(self._factors)

    def products(self, name: str) -> list[tuple[Tensor, Tensor]] | None:
        """What is added to a tensor, as products of two matrices in float32, (rows, rank) and (rank, columns) on disk.

        Of a tensor that changes otherwise there are none to be had: None.
        """
        if name not in self._factors:
            return []
        module, embedding, key_a, key_b = self._factors[name]
        a, b = self._read_factor(key_a).float(), self._read_factor(key_b).float()
        b = b * self.scale(module, a.shape[0])
        return [(a.T, b.T) if embedding or self._settings.get("fan_in_fan_out") else (b, a)]

    def scale(self, module: str, rank: int) -> float:
        """The factor before B A for one module."""
        alpha = self._alphas.get(module, float(self._settings.get("lora_alpha", 8)))
        return alpha / (math.sqrt(rank) if self._settings.get("use_rslora") else rank)

    def _find_factors(self, shard: Shard) -> dict[str, tuple[str, bool, str, str]]:
        pairs: dict[str, dict[str, str]] = {}
        for key in shard.tensors:
            match = FACTOR.match(key)
            if match is None:
                raise CheckpointError(
                    f"{self.source} holds `{key}`, which is not a LoRA factor that we can merge.\n"
                    "Merge it with peft's `merge_and_unload`, then give the merged checkpoint."
                )
            module, embedding, side = match.groups()
            dtype, shape, *_ = shard.tensors[key]
            if not dtype.is_floating_point or len(shape) != 2:
                raise CheckpointError(
                    f"{self.source} holds `{key}` of type {dtype} and shape {shape}.\n"
                    "A factor of LoRA is a matrix of floating-point numbers.\nSave the adapter again with peft."
                )
            known = pairs.setdefault(module, {})
            if side in known:
                raise CheckpointError(
                    f"{self.source} holds a factor {side} of {module} twice: `{known[side]}` and `{key}`.\n"
                    "The change would be that of one of them.\nSave the adapter again with peft."
                )
            known |= {side: key, "embedding": embedding or ""}
        factors: dict[str, tuple[str, bool, str, str]] = {}
        for module, keys in pairs.items():
            if self.ties_embeddings and (
                INPUT_EMBEDDING.search(f"{module}.weight") or OUTPUT_EMBEDDING.search(f"{module}.weight")
            ):
                raise CheckpointError(
                    f"{self.source} adapts {module}, but {self.base.source} ties its embeddings.\n"
                    "Merged, the change would reach both ends of the model. Untie the base first "
                    "(`tie_word_embeddings: false`, both tensors stored)."
                )
            name = self._on_disk_name(module)
            if "A" not in keys or "B" not in keys:
                raise CheckpointError(f"{self.source} has only one of the two factors of {module}.")
            if name in factors:
                raise CheckpointError(
                    f"{self.source} changes `{name}` twice, as {factors[name][0]} and as {module}.\n"
                    "The change would be that of one of them.\nSave the adapter again with peft."
                )
            rows, columns = shard.tensors[keys["B"]].shape[0], shard.tensors[keys["A"]].shape[-1]
            embedding = bool(keys["embedding"])
            flipped = embedding or bool(self._settings.get("fan_in_fan_out"))
            shape = (columns, rows) if flipped else (rows, columns)
            if shape != self.shape(name):
                raise CheckpointMismatchError(
                    f"{module} has a change of shape {shape} in {self.source}, but `{name}` has "
                    f"shape {self.shape(name)} in {self.base.source}.\n"
                    "The adapter was trained on another base. Give the base that it names."
                )
            factors[name] = (module, embedding, keys["A"], keys["B"])
        return factors

    def _by_pattern(self, setting: str, modules: list[str]) -> dict[str, float]:
        """The value of each module that a pattern names; as in peft, by its name or, as a regex, the end of it."""
        values: Mapping[str, float] = self._settings.get(setting) or {}
        try:
            found = first_match([*values], modules, r"(.*\.)?(PATTERN)$")
        except ValueError as error:
            raise CheckpointError(
                f"`{setting}` of {self.source} has {error}.\n"
                "It says which modules have a rank or a factor of their own.\nWrite names of modules there."
            ) from error
        return {module: values[pattern] for module, pattern in found.items() if pattern is not None}

    def _check_rank(self, module: str, rank: float, shard: Shard, key_a: str, key_b: str) -> None:
        found = shard.tensors[key_a].shape[0], shard.tensors[key_b].shape[1]
        if found != (rank, rank) or rank < 1:
            raise CheckpointError(
                f"The factors of {module} in {self.source} have the ranks {found[0]} and {found[1]}, its "
                f"{ADAPTER_CONFIG} says {rank:g}.\nThe scale of the change hangs on the rank, and peft loads no such "
                "adapter.\nSave it again with peft."
            )

    def _on_disk_name(self, module: str) -> str:
        for candidate in (f"{module}.weight", f"{module.partition('.')[2]}.weight"):
            if candidate in self._shards:
                return candidate
        raise CheckpointMismatchError(
            f"{self.source} adapts {module}, but {self.base.source} stores no `{module}.weight`.\n"
            "The adapter was trained on another base, or the checkpoint stores this module under "
            "another name. Merge it with peft's `merge_and_unload`, then give the result."
        )


def merge_low_rank(
    weight: Float[Tensor, "rows columns"],
    a: Float[Tensor, "rank _in"],
    b: Float[Tensor, "_out rank"],
    scale: float,
    flipped: bool = False,
) -> Float[Tensor, "rows columns"]:
    """Form W + scale · B A in float32 (its transpose if `flipped`), in W's data type."""
    product = b.float() @ a.float()
    merged = weight.float() + (product.T if flipped else product) * scale
    return merged.to(weight.dtype)


def refuse_unsupported(source: str, settings: Json) -> None:
    """Refuse the settings of an adapter that is not plain LoRA.

    Raises:
        CheckpointError: With what it has.
    """
    kind, init = settings.get("peft_type"), settings.get("init_lora_weights")
    reasons = [name for name in REFUSED if settings.get(name)]
    if kind != "LORA":
        reasons.insert(0, f"peft_type: {kind}")
    if settings.get("bias", "none") != "none":
        reasons.append(f"bias: {settings['bias']}")
    if isinstance(init, str) and init.lower().startswith(CHANGES_BASE):
        reasons.append(f"init_lora_weights: {init}")
    if reasons:
        raise CheckpointError(
            f"{source} is an adapter with `{'`, `'.join(reasons)}`, which we cannot merge exactly.\n"
            "Only plain LoRA is read. Merge it with peft's `merge_and_unload` and `save_pretrained`, "
            "then give the merged checkpoint."
        )
