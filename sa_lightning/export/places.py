"""For adapters: which module of a model each stored tensor belongs to."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.pytorch_utils import Conv1D

from sa_lightning.models import load_config
from sa_lightning.surgery import Place

__all__ = ["places"]


def places(source: str, names: Iterable[str]) -> dict[str, Place]:
    """Find the module in memory of every stored tensor, and what kind of module it is.

    The model is made of its config on the `meta` device, which takes no memory; names are those that transformers
    would load the tensors under.

    Args:
        source: Directory or Hub id of a checkpoint, or of an adapter, whose base is meant.
        names: Of the tensors, as they are on disk.

    Raises:
        ModelError: If there is no such model.
    """
    config: Any = load_config(source)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    transforms: list[Any] = get_model_conversion_mapping(model)
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    converters = [one for one in transforms if isinstance(one, WeightConverter)]
    state: Any = dict(model.named_parameters(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, tuple[str, str, bool]] = {}
    for name in names:
        key, converted = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        module, _, parameter = key.rpartition(".")
        found[name] = module, parameter, converted is None and key in state
    stored: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, (module, parameter, known) in found.items():
        if known:
            stored[module].append((parameter, name))
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", head)
    other = next((name for name, one in modules.items() if one is head), None) if tied else None
    return {
        name: Place(module, parameter, *_kind(modules.get(module), state.get(f"{module}.{parameter}"), known,
                                              other if modules.get(module) is embedding else None),
                    tuple(stored[module]))
        for name, (module, parameter, known) in found.items()
    }  # fmt: skip


def _kind(module: nn.Module | None, tensor: Any, known: bool, other: str | None) -> tuple[Any, str | None]:
    if module is None or not known:
        return ("fused" if tensor is not None and tensor.dim() > 2 else "none"), None
    if other is not None:
        return "tied", other
    for kind, classes in (("linear", nn.Linear), ("conv1d", Conv1D), ("embedding", nn.Embedding)):
        if isinstance(module, classes):
            return kind, None
    if tensor.dim() > 2 and not isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return "fused", None
    return ("none" if any(True for _ in module.children()) else "whole"), None
