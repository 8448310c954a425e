"""Load a causal language model: a checkpoint, or a PEFT adapter merged into its base."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from sa_lightning.errors import ModelError
from sa_lightning.files import Json
from sa_lightning.models.gguf import plain

DType = Literal["auto", "float32", "bfloat16", "float16"]


def is_adapter(source: str) -> bool:
    """Say whether a local directory holds a PEFT adapter and no full checkpoint."""
    path = Path(source)
    return (path / "adapter_config.json").is_file() and not (path / "config.json").is_file()


def base_of(source: str) -> str:
    """Return the checkpoint that an adapter belongs to; of a checkpoint itself; of a GGUF file its conversion."""
    if not is_adapter(source):
        return plain(source)
    name = _adapter_config(source)["base_model_name_or_path"]
    # A relative base may be meant from the adapter's own directory.
    beside = Path(source) / name
    name = str(beside) if not Path(name).exists() and beside.exists() else name
    return plain(name)


def _adapter_config(source: str) -> Json:
    return json.loads((Path(source) / "adapter_config.json").read_text(encoding="utf-8"))


def load_config(source: str, *, revision: str | None = None, trust_remote_code: bool = False) -> PretrainedConfig:
    """Read a model's config, of an adapter its base's: fast, and before any weight is read.

    Raises:
        ModelError: If there is no such model.
    """
    name = base_of(source)
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        looks_local = Path(name).is_absolute() or name.startswith(("./", "../")) or name.count("/") > 1
        hint = (
            "Check the path: it needs a config.json."
            if looks_local or Path(name).exists()
            else "Check the spelling; a Hub id needs the network once, or a copy in the Hugging Face cache."
        )
        raise ModelError(
            f"No model could be found at {name}: {str(error).splitlines()[0]}\nIt was asked for as `{source}`.\n{hint}"
        ) from error


def load_model(
    source: str,
    *,
    dtype: DType = "auto",
    device: torch.device | str = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a frozen causal language model in evaluation mode.

    Args:
        source: Directory or Hub id of a checkpoint, a GGUF file, or directory of a PEFT adapter, which is
            merged into its base (W + scale · B A, in the base's dtype).
        dtype: `auto` keeps the dtype of the checkpoint.
        device: Where the weights go.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run Python code that comes with the checkpoint.

    Raises:
        ModelError: If there is no such model.
    """
    load_config(source, revision=revision, trust_remote_code=trust_remote_code)
    model: Any = AutoModelForCausalLM.from_pretrained(
        base_of(source),
        dtype="auto" if dtype == "auto" else getattr(torch, dtype),
        revision=_adapter_config(source).get("revision") if is_adapter(source) else revision,
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
    )
    if is_adapter(source):
        model = merge_adapter(model, source)
    model.requires_grad_(False)
    return model.eval().to(device)


def merge_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """Merge a PEFT adapter into a model, in place, and return the plain model."""
    from peft import PeftModel  # a second of import that only adapters pay

    merged: Any = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return merged
