"""The JSON files of a checkpoint, held to what is read of them: its configuration, and that of an adapter."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sa_lightning.errors import CheckpointError
from sa_lightning.files import Json
from sa_lightning.schema import check_types
from sa_lightning.weight_files import read_object

__all__ = ["AdapterConfig", "Config", "read_json"]


@dataclass(frozen=True)
class Config:
    """What is read of `config.json`; of a model of several parts, `text_config` has the same."""

    quantization_config: dict[str, Any] | None = None
    text_config: dict[str, Any] | None = None
    tie_word_embeddings: bool | None = None
    num_attention_heads: int | None = None
    n_head: int | None = None


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
    use_dora: bool | None = False
    modules_to_save: list[str] | None = None
    bias: str | None = "none"


def read_json(path: Path, kind: type[Any]) -> Json:
    """Read a JSON object whose values are of the types that a data class has for them; others may be anything.

    Raises:
        CheckpointError: If it is no JSON object, or holds a value of another type.
    """
    found = read_object(path)
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
