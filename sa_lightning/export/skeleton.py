"""For adapters: a model without its weights, to whose modules stored tensors belong, and which peft loads."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.pytorch_utils import Conv1D

from sa_lightning.errors import ModelError
from sa_lightning.models import load_config
from sa_lightning.models.as_asked import auto_class
from sa_lightning.surgery import Place

__all__ = ["Skeleton"]


class Skeleton:
    """A model without its weights: made of its config on the `meta` device, it takes no memory.

    Args:
        source: Directory or Hub id of a checkpoint, or of an adapter, whose base is meant.

    Raises:
        ModelError: If there is no such model.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        config: Any = load_config(source)
        with torch.device("meta"):
            self.model: Any = auto_class(config).from_config(config)

    def places(self, names: Iterable[str]) -> dict[str, Place]:
        """Find the module of every tensor by its name on disk, under which transformers would load it."""
        model = self.model
        transforms: list[Any] = get_model_conversion_mapping(model)
        renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
        converters = [one for one in transforms if isinstance(one, WeightConverter)]
        state: Any = model.state_dict(keep_vars=True)
        modules = dict(model.named_modules(remove_duplicate=False))
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        tied = head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", head)
        other = next((name for name, one in modules.items() if one is head), None) if tied else None
        found: dict[str, tuple[str, str, bool]] = {}
        stored: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name in names:
            key, converted = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
            module, _, parameter = key.rpartition(".")
            found[name] = module, parameter, converted is None and key in state
            if found[name][2]:
                stored[module].append((parameter, name))
        places: dict[str, Place] = {}
        for name, (module, parameter, known) in found.items():
            one = modules.get(module)
            kind, end = _kind(one, state.get(f"{module}.{parameter}"), known, other if one is embedding else None)
            places[name] = Place(module, parameter, kind, end, tuple(stored[module]))
        return places

    def check(self, adapter: Path) -> None:
        """Refuse an adapter whose tensors and the modules of the model do not match one to one, as peft loads it.

        Raises:
            ModelError: With the names of those that do not.
        """
        from peft import PeftConfig, PeftModel

        config: Any = PeftConfig.from_pretrained(str(adapter))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they are about is looked at below
            wrapped: Any = PeftModel(self.model, config, low_cpu_mem_usage=True)
            result = wrapped.load_adapter(str(adapter), "default", torch_device="cpu", low_cpu_mem_usage=True)
        if wrong := sorted({*result.unexpected_keys, *result.missing_keys}):
            raise ModelError(
                f"peft finds no place for {len(wrong)} tensors of the adapter in {self.source}, such as `{wrong[0]}`.\n"
                "It would leave them out, and the adapter be another model than the edit.\n"
                "Write a checkpoint: `--format checkpoint`."
            )


def _kind(module: nn.Module | None, tensor: Any, known: bool, other: str | None) -> tuple[Any, str | None]:
    if module is None or not known:
        return ("fused" if tensor is not None and tensor.dim() > 2 else "none"), None
    if other is not None:
        return "tied", other
    if isinstance(module, nn.Linear):
        probe = torch.empty(1, module.in_features, device="meta", dtype=module.weight.dtype)
        return ("linear" if isinstance(module(probe), torch.Tensor) else "whole"), None  # a router returns more
    if isinstance(module, Conv1D):
        return "conv1d", None
    if isinstance(module, nn.Embedding):  # positions of OPT are looked up by another forward, which peft has not
        own = type(module).forward is nn.Embedding.forward or hasattr(module, "embed_scale")
        return ("embedding" if own else "whole"), None
    if "experts" in type(module).__name__.lower():
        return "fused", None
    return ("none" if any(True for _ in module.children()) else "whole"), None
