"""The JSON files of a checkpoint, held to what is read of them: its configuration, its index, that of an adapter."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sa_lightning.errors import CheckpointError
from sa_lightning.files import Json
from sa_lightning.schema import check_types

__all__ = ["AdapterConfig", "Config", "Index", "read_json"]

LARGEST = 1 << 28  # bytes; the index of a model with a million tensors has less than half


@dataclass(frozen=True)
class Config:
    """What is read of `config.json`; of a model of several parts, `text_config` has the same."""

    quantization_config: dict[str, Any] | None = None
    text_config: dict[str, Any] | None = None
    tie_word_embeddings: bool | None = None
    num_attention_heads: int | None = None
    n_head: int | None = None


@dataclass(frozen=True)
class Index:
    """What is read of `model.safetensors.index.json`; the names of shards are looked at by `shard_name`."""

    weight_map: dict[str, Any]


@dataclass(frozen=True)
class AdapterConfig:
    """What is read of `adapter_config.json`, with the values of peft for what is not there."""

    peft_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: int = 8
    lora_alpha: float = 8
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = False
    fan_in_fan_out: bool | None = False
    bias: str | None = "none"


def read_json(path: Path, kind: type[Any]) -> Json:
    """Read a JSON object whose values are of the types that a data class has for them; others may be anything.

    Raises:
        CheckpointError: If it cannot be read, is no object, or holds a value of another type.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or size > LARGEST:
            raise ValueError(f"it has {size} bytes, or is no file")
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {error}.\n"
            "It says what the weights beside it are.\nFetch it again, or save the checkpoint again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds no JSON object, so it is no configuration.\n"
            "It says what the weights beside it are.\nFetch it again, or save the checkpoint again."
        )
    found: Json = content  # pyright: ignore[reportUnknownVariableType]  # any JSON
    names = {field.name for field in fields(kind)}
    text: Json = found["text_config"] if kind is Config and isinstance(found.get("text_config"), dict) else {}
    try:
        for part in (found, text):
            check_types(kind, {name: value for name, value in part.items() if name in names})
    except (TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not what it should be: {error}.\n"
            "Weights would be read in another way than they are meant.\nMend it, or fetch it again."
        ) from error
    return found
