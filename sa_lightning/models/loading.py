"""Load a causal language model: a checkpoint, or PEFT adapters merged into their base."""

import os
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from sa_lightning.errors import CheckpointError, ModelError
from sa_lightning.models.adapters import base_of, base_revision, check_adapter, merge_adapters
from sa_lightning.models.as_asked import (
    auto_class,
    brief,
    check_config,
    check_loaded,
    check_runs,
    check_stored,
    in_our_words,
)
from sa_lightning.models.stored.quantised import (
    Quantization,
    check_quantization,
    loading_options,
    packed_as,
    settled,
)
from sa_lightning.source import read
from sa_lightning.weight_files import read_object

DType = Literal["auto", "float32", "bfloat16", "float16"]


def load_config(
    source: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    quantization: Quantization | None = None,
) -> PretrainedConfig:
    """Read a model's config, of an adapter its base's: fast, and before any weight is read.

    Raises:
        ModelError: If there is no such model, its config is damaged, or it describes what is not loaded here.
    """
    name = base_of(source)
    try:
        config = AutoConfig.from_pretrained(
            name, revision=base_revision(source, revision), trust_remote_code=trust_remote_code
        )
        check_config(config, name)
        check_quantization(config, name, quantization, adapted=bool(read(source).adapters))
    except ModelError:
        raise
    except Exception as error:  # of transformers, its config classes, huggingface_hub and json
        raise _no_config(name, source, error) from error
    return config


def load_model(
    source: str,
    *,
    dtype: DType = "auto",
    device: torch.device | str = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
    quantization: Quantization | None = None,
) -> PreTrainedModel:
    """Load a frozen causal language model in evaluation mode, whole and as its config says, or not at all.

    Args:
        source: Directory or Hub id of a checkpoint, a GGUF file, directory of a PEFT adapter, which is merged into its
            base (W + scale · B A, in the base's dtype), or a sum: `BASE + ADAPTER*0.7 + ADAPTER`.
        dtype: `auto` keeps the dtype of the checkpoint.
        device: Where the weights go.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run Python code that comes with the checkpoint.
        quantization: `8bit` or `4bit`: weights of linear layers are packed by bitsandbytes as they are loaded, the
            head's aside; `dequantize`: packed ones (bitsandbytes, mxfp4, fp8) are unpacked. If not set, they are as
            the checkpoint has them, packed by bitsandbytes or floats.

    Raises:
        ModelError: If there is no such model, its files are damaged, it lacks weights or has others than its config
            says, an adapter does not fit, or it cannot run.
    """
    config = load_config(source, revision=revision, trust_remote_code=trust_remote_code, quantization=quantization)
    name = base_of(source)
    adapters = read(source).adapters
    for adapter, _ in adapters:
        check_adapter(adapter)
    if os.path.isdir(name):
        check_stored(config, name, Path(name), not trust_remote_code, packed_as(config) is not None)
    with in_our_words(f"{name} cannot be loaded", "Fetch or save it again, or try another transformers version."):
        loaded: Any = auto_class(config).from_pretrained(
            name,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            revision=base_revision(source, revision),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **loading_options(config, quantization, device),
        )
        model, report = loaded
        model = settled(model, config, quantization)
    check_loaded(model, report, name, packed=packed_as(model.config) is not None)
    if adapters:
        model = merge_adapters(model, source)
    model.requires_grad_(False)
    moved: Any = model
    with in_our_words(f"{source} cannot be put on {device}", "Choose another device, or a smaller type of weights."):
        model = moved.eval().to(device)
    check_runs(model, source)
    return model


def _no_config(name: str, source: str, error: Exception) -> ModelError:
    """Say why a config cannot be read."""
    asked = "" if name == source else f"\nIt was asked for as `{source}`."
    file = Path(name) / "config.json"
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{name} comes with Python code of its own, without which it cannot be loaded.{asked}\n"
            "Such code can do anything on this machine, and is not run unasked.\n"
            "Read it; if you trust it, set `trust_remote_code`: `--model.trust_remote_code true`."
        )
    if not os.path.isfile(file):
        looks_local = Path(name).is_absolute() or name.startswith(("./", "../")) or name.count("/") > 1
        hint = (
            "Check the path: it needs a config.json."
            if looks_local or os.path.exists(name)
            else "Check the spelling; a Hub id needs the network once, or a copy in the Hugging Face cache."
        )
        return ModelError(f"No model could be found at {name}: {brief(error)}\nIt was asked for as `{source}`.\n{hint}")
    try:
        kind = read_object(file).get("model_type")
    except CheckpointError as damaged:
        return ModelError(str(damaged))
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        return ModelError(
            f"{file} says `model_type`: {kind!r}, which transformers {transformers.__version__} does not know.{asked}\n"
            "The class of a model follows from it.\nCorrect the line, or take a newer transformers."
        )
    return ModelError(f"{file} describes no model.{asked}\n{brief(error)}\nFetch it again.")
