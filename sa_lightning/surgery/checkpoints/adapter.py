"""One PEFT adapter of the LoRA family: which tensors of a base it changes, and what it makes of their rows."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import CheckpointError, CheckpointMismatchError
from sa_lightning.files import Json
from sa_lightning.foreign.patterns import first_match
from sa_lightning.source import ADAPTER_CONFIG
from sa_lightning.surgery.checkpoints.changes import BiasStep, Change, LowRank, Replaced, lora_scale
from sa_lightning.surgery.checkpoints.checkpoint import ADAPTER_WEIGHTS, INPUT_EMBEDDING, OUTPUT_EMBEDDING
from sa_lightning.surgery.checkpoints.json_files import AdapterConfig, read_json
from sa_lightning.surgery.checkpoints.shard import Shard
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Weights

__all__ = ["Adapter", "adapts_ends", "read_settings"]

KEY = re.compile(
    r"^(?:base_model\.model\.)?(.+?)\.(lora_(?:embedding_)?[AB]|lora_magnitude_vector)(?:\.(weight|bias))?$"
)
WRAPPED = re.compile(r"\.(base_layer|original_module|modules_to_save)(?=\.)")
PREFIX = re.compile(r"^((base_model|model|language_model|transformer)\.)+")  # by which names of one tensor differ
REFUSED = (
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "alora_invocation_tokens",
    "arrow_config",
    "use_bdlora",
    "velora_config",
    "monteclora_config",
    "kasa_config",
    "megatron_config",
)
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # these write a residual back into the base


class Adapter:
    """What a LoRA adapter makes of a base: `changed` names its tensors, `rows` are those of the merged model.

    Plain LoRA, rsLoRA, DoRA, biases (`bias`, `lora_bias`), and modules that are saved whole. Formed in float32.

    Args:
        source: How messages call it.
        path: Its directory.
        settings: Of its adapter_config.json.
        base: The weights that it changes. The ends of a tied model are two tensors there if `adapts_ends`.
        tied: The names of these two, if the model tied them: the values of a base that an adapter stores are of both.

    Raises:
        CheckpointError: If it holds what cannot be merged exactly, or one of two factors.
        CheckpointMismatchError: If it was trained on another base.
    """

    def __init__(
        self, source: str, path: Path, settings: Json, base: Weights, tied: tuple[str, str] | None = None
    ) -> None:
        self.source, self.path, self.base, self._tied = source, path, base, tied or ()
        self._settings = settings
        self._shard = Shard(path / ADAPTER_WEIGHTS)
        self._read = lru_cache(maxsize=8)(self._shard.read)  # each slice of a weight needs the same two
        self._names = self._known_names()
        self.changed: dict[str, list[Change]] = {}
        modules = self._sorted_keys()
        ranks = self._by_pattern("rank_pattern", modules)
        self._alphas = self._by_pattern("alpha_pattern", modules)
        for module, keys in modules.items():
            self._add_low_rank(module, keys, ranks.get(module, float(settings.get("r", 8))))
        self._check_saved()

    def rows(self, piece: Slice, weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """Some rows of a tensor with the adapter merged, in float32, from those of the base."""
        for change in self.changed.get(piece.name, ()):
            weight = change.rows(piece, weight)
        return weight

    def _sorted_keys(self) -> dict[str, dict[str, str]]:
        """Keys of the factors of each module by what they are; what replaces a whole tensor is taken up at once."""
        modules: dict[str, dict[str, str]] = {}
        for key, (dtype, shape, *_) in self._shard.tensors.items():
            if not dtype.is_floating_point:
                raise CheckpointError(
                    f"{self.source} holds `{key}` of type {dtype}.\nWeights are floats.\n"
                    "Save the adapter again with peft."
                )
            match = KEY.match(key)
            if match is None:
                self._add_replaced(key, shape)
                continue
            module, kind, leaf = match.groups()
            side = f"{kind[-1]}.bias" if leaf == "bias" else "magnitude" if "magnitude" in kind else kind[-1]
            if side in ("A", "B") and len(shape) != 2:
                raise CheckpointError(
                    f"{self.source} holds `{key}` of the shape {shape}.\nA factor of LoRA is a matrix.\n"
                    "Save the adapter again with peft."
                )
            known = modules.setdefault(module, {})
            if side in known:
                raise CheckpointError(
                    f"{self.source} holds a factor {side} of {module} twice: `{known[side]}` and `{key}`.\n"
                    "The change would be that of one of them.\nSave the adapter again with peft."
                )
            known[side] = key
            known["embedding"] = "yes" if "embedding" in kind else known.get("embedding", "")
        for key in self._shard.tensors if self._tied else ():
            if ".base_layer." in key:
                for name in self._tied:
                    self.changed.setdefault(name, [Replaced(self._shard.rows, key)])
        return modules

    def _add_replaced(self, key: str, shape: tuple[int, ...]) -> None:
        name = self._found(WRAPPED.sub("", key.removeprefix("base_model.model.")), key)
        self._check_shape(name, shape, key)
        self._add(name, key, Replaced(self._shard.rows, key))

    def _add_low_rank(self, module: str, keys: dict[str, str], rank: float) -> None:
        name = self._found(f"{module}.weight", module)
        if "A" not in keys or "B" not in keys:
            raise CheckpointError(
                f"{self.source} has only one of the two factors of {module}.\n"
                "The change is their product.\nSave the adapter again with peft."
            )
        a, b = keys["A"], keys["B"]
        rows, columns = self._shard.tensors[b].shape[0], self._shard.tensors[a].shape[-1]
        flipped = bool(keys["embedding"] or self._settings.get("fan_in_fan_out"))
        self._check_shape(name, (columns, rows) if flipped else (rows, columns), module)
        self._check_rank(module, rank, a, b)
        alpha = self._alphas.get(module, float(self._settings.get("lora_alpha", 8)))
        scale = lora_scale(alpha, int(rank), bool(self._settings.get("use_rslora")))
        magnitude = keys.get("magnitude")
        if bool(self._settings.get("use_dora")) != (magnitude is not None):
            raise CheckpointError(
                f"{self.source} {'lacks' if magnitude is None else 'has'} the magnitudes of {module}, and its "
                f"`use_dora` is {bool(self._settings.get('use_dora'))}.\nDoRA is not LoRA.\n"
                "Save the adapter again with peft."
            )
        before = list(self.changed.get(name, ()))

        def plain(piece: Slice) -> Tensor:
            piece = piece._replace(name=name)
            rows = self.base.rows(piece).float()
            for change in before:
                rows = change.rows(piece, rows)
            return rows

        shape = self.base.shape(name)
        self._check_vector(magnitude, rows, module)
        self._add(name, module, LowRank(self._read, a, b, scale, flipped, magnitude, plain, shape))
        if bias := keys.get("B.bias"):
            name = self._found(f"{module}.bias", bias)
            self._check_vector(bias, self.base.shape(name)[0], module)
            self._add(name, bias, BiasStep(self._read, bias, scale))

    def _add(self, name: str, key: str, change: Change) -> None:
        known = self.changed.setdefault(name, [])
        if any(type(other) is type(change) for other in known):
            raise CheckpointError(
                f"{self.source} changes `{name}` twice, the second time as {key}.\n"
                "The change would be that of one of them.\nSave the adapter again with peft."
            )
        known.append(change)

    def _check_shape(self, name: str, shape: tuple[int, ...], key: str) -> None:
        if shape != self.base.shape(name):
            raise CheckpointMismatchError(
                f"{key} has a change of shape {shape} in {self.source}, but `{name}` has shape {self.base.shape(name)} "
                f"in {self.base.source}.\n"
                "The adapter was trained on another base, or on one with more tokens.\n"
                "Give the base that it names; if its embedding was resized, merge it with peft's `merge_and_unload`."
            )

    def _check_saved(self) -> None:
        saved: Sequence[str] = self._settings.get("modules_to_save") or ()
        for name in self.base.names:
            module = f".{name}".rpartition(".")[0]
            if module.endswith(tuple(f".{one}" for one in saved)) and name not in self.changed:
                raise CheckpointError(
                    f"{self.source} has `{module[1:]}` among its `modules_to_save`, and no tensor for `{name}`.\n"
                    "It was trained, and would be that of the base.\nSave the adapter again with peft."
                )

    def _check_vector(self, key: str | None, length: int, module: str) -> None:
        if key is not None and self._shard.tensors[key].shape not in ((length,), (length, 1), (1, length)):
            raise CheckpointError(
                f"{self.source} holds `{key}` of the shape {self._shard.tensors[key].shape}, and {module} has {length} "
                "outputs.\nThere is one value for each.\nSave the adapter again with peft."
            )

    def _check_rank(self, module: str, rank: float, key_a: str, key_b: str) -> None:
        found = self._shard.tensors[key_a].shape[0], self._shard.tensors[key_b].shape[1]
        if found != (rank, rank) or rank < 1:
            raise CheckpointError(
                f"The factors of {module} in {self.source} have the ranks {found[0]} and {found[1]}, its "
                f"{ADAPTER_CONFIG} says {rank:g}.\nThe scale of the change hangs on the rank, and peft loads no such "
                "adapter.\nSave it again with peft."
            )

    def _by_pattern(self, setting: str, modules: Mapping[str, object]) -> dict[str, float]:
        """The value of each module that a pattern names; as in peft, by its name or, as a regex, the end of it."""
        values: Mapping[str, float] = self._settings.get(setting) or {}
        try:
            found = first_match([*values], [*modules], r"(.*\.)?(PATTERN)$")
        except ValueError as error:
            raise CheckpointError(
                f"`{setting}` of {self.source} has {error}.\n"
                "It says which modules have a rank or a factor of their own.\nWrite names of modules there."
            ) from error
        return {module: values[pattern] for module, pattern in found.items() if pattern is not None}

    def _known_names(self) -> dict[str, str]:
        """The tensors of the base, by their names, and by those without the prefixes in which versions differ."""
        found: dict[str, list[str]] = {}
        for name in self.base.names:
            found.setdefault(PREFIX.sub("", name), []).append(name)
        return {short: names[0] for short, names in found.items() if len(names) == 1} | {n: n for n in self.base.names}

    def _found(self, name: str, key: str) -> str:
        for candidate in (name, PREFIX.sub("", name), name.partition(".")[2]):
            if candidate in self._names:
                return self._names[candidate]
        raise CheckpointMismatchError(
            f"{self.source} adapts {key}, but {self.base.source} stores no `{name}`.\n"
            "The adapter was trained on another base, or the checkpoint stores this module under another name.\n"
            "Merge it with peft's `merge_and_unload`, then give the result."
        )


def adapts_ends(path: Path) -> bool:
    """Say whether an adapter changes the embedding or the head, so that a tied model has two tensors afterwards."""
    modules = (KEY.sub(r"\1.weight", WRAPPED.sub("", key)) for key in Shard(path / ADAPTER_WEIGHTS).tensors)
    return any(INPUT_EMBEDDING.search(name) or OUTPUT_EMBEDDING.search(name) for name in modules)


def read_settings(source: str, path: Path) -> Json:
    """Read what an adapter says of itself, and refuse what is not of the LoRA family.

    Raises:
        CheckpointError: With what it has.
    """
    settings = read_json(path / ADAPTER_CONFIG, AdapterConfig)
    kind, init = settings.get("peft_type"), settings.get("init_lora_weights")
    reasons = [name for name in REFUSED if settings.get(name)]
    if kind != "LORA":
        reasons.insert(0, f"peft_type: {kind}")
    if isinstance(init, str) and init.lower().startswith(CHANGES_BASE):
        reasons.append(f"init_lora_weights: {init}")
    if reasons:
        raise CheckpointError(
            f"{source} is an adapter with `{'`, `'.join(reasons)}`, which we cannot merge exactly.\n"
            "LoRA, rsLoRA, DoRA, biases and saved modules are read.\n"
            "Merge it with peft's `merge_and_unload` and `save_pretrained`, then give the merged checkpoint."
        )
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(
            f"{source} has no `{ADAPTER_WEIGHTS}` beside its `{ADAPTER_CONFIG}`.\n"
            "No pickle is read.\nSave the adapter again with `save_pretrained`."
        )
    return settings
