"""What PEFT reads: the tensors under its names, and adapter_config.json."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sa_lightning.files import Json
from sa_lightning.source import ADAPTER_CONFIG
from sa_lightning.surgery.adapters.change import Change
from sa_lightning.surgery.adapters.collected import Collected
from sa_lightning.surgery.adapters.place import Place
from sa_lightning.surgery.checkpoints.opening import is_directory

__all__ = ["adapter_settings", "adapter_tensors"]

PREFIX = "base_model.model."


def adapter_tensors(found: Collected) -> dict[str, Tensor]:
    """Everything under the names that PEFT gives it."""
    tensors, places = dict[str, Tensor](), found.places
    for name, one in found.matrices.items():
        module, kind = PREFIX + places[name].module, places[name].kind
        # Of a layer: W of (out, in) + B A. A Conv1D and an embedding are stored the other way round.
        a, b = (one.right, one.left) if kind == "linear" else (one.left.T, one.right.T)
        for side, factor in (("A", a), ("B", b)):
            key = f"{module}.lora_embedding_{side}" if kind == "embedding" else f"{module}.lora_{side}.weight"
            tensors[key] = factor.contiguous()
    adapted = {places[name].module for name in found.matrices}
    for name, value in found.vectors.items():
        module = places[name].module
        tensors[f"{PREFIX}{module}{'.base_layer' if module in adapted else ''}.{places[name].parameter}"] = value
    for module, values in found.whole.items():
        for name, value in values.items():
            tensors[f"{PREFIX}{module}.{places[name].parameter}"] = value.contiguous()
            if places[name].other is not None:
                tensors[f"{PREFIX}{places[name].other}.{places[name].parameter}"] = value.clone()
    return tensors


def adapter_settings(found: Collected, change: Change) -> Json:
    """What adapter_config.json says: alpha is the rank everywhere, so the scale is 1."""
    places = found.places
    ranks = {places[name].module: one.rank for name, one in found.matrices.items()}
    most = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: rank for module, rank in ranks.items() if rank != most}
    kinds = {places[name].kind for name in found.matrices}
    whole = {*found.whole, *(place.other for place in places.values() if place.other and place.module in found.whole)}
    named = change.base.source
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(Path(named).expanduser().resolve()) if is_directory(named) else named,
        "revision": _revision(change),
        "r": most,
        "lora_alpha": most,
        "rank_pattern": others,
        "alpha_pattern": dict(others),
        "target_modules": _targets(set(ranks), places),
        "modules_to_save": sorted(whole) or None,
        "bias": "all" if found.vectors else "none",
        "fan_in_fan_out": "conv1d" in kinds,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _targets(modules: set[str], places: Mapping[str, Place]) -> list[str]:
    """The modules with factors: by the last part of the name where all that are called so are meant, else in full.

    In full, too, where experts are loaded as one tensor: peft takes last parts of names for theirs, and renames them.
    """
    if any(place.kind == "fused" for place in places.values()):
        return sorted(modules)
    leaves: dict[str, set[str]] = {}
    for place in places.values():
        leaves.setdefault(place.module.rpartition(".")[2], set()).add(place.module)
    return sorted({leaf if leaves[leaf] <= modules else m for m in modules for leaf in [m.rpartition(".")[2]]})


def _revision(change: Change) -> str | None:
    """The revision of the base, where an adapter of the target records it."""
    for directory in change.target.directories[len(change.base.directories) :]:
        settings: Json = json.loads((directory / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if settings.get("base_model_name_or_path") == change.base.source:
            return settings.get("revision")
    return None
