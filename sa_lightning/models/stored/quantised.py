"""Packed weights: which of them are loaded, and how, and what a record says of them."""

import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PretrainedConfig

from sa_lightning.errors import ModelError
from sa_lightning.models.gguf import RECORD
from sa_lightning.weight_files import DEQUANTIZED

Quantization = Literal["8bit", "4bit", "dequantize"]
BNB = "bitsandbytes"


def packed_as(config: PretrainedConfig) -> Mapping[str, Any] | None:
    """Return what a config says of packed weights, with `quant_method` as a text; None where they are floats."""
    found = getattr(config, "quantization_config", None)
    found = found or getattr(config.get_text_config(decoder=True), "quantization_config", None)
    if not found:
        return None
    settings = dict(found) if isinstance(found, Mapping) else getattr(found, "__dict__", {"quant_method": found})
    kind = settings.get("quant_method")
    return settings | {"quant_method": str(getattr(kind, "value", kind))}


def check_quantization(config: PretrainedConfig, source: str, wanted: Quantization | None, adapted: bool) -> None:
    """Refuse, by the config, packed weights that are not loaded here, and what cannot be packed or unpacked.

    Args:
        config: Of the checkpoint.
        source: How messages call it.
        wanted: What was asked for; None for weights as they are stored.
        adapted: Whether an adapter is merged into them.

    Raises:
        ModelError: With the format, and the way round.
    """
    packed = packed_as(config)
    kind = packed["quant_method"] if packed else None
    if wanted == "dequantize" and kind not in DEQUANTIZED:
        raise ModelError(
            f"{source} is {f'quantised ({kind})' if kind else 'not quantised'}, and "
            f"`--model.quantization dequantize` is asked for.\n"
            f"Formats that are dequantised here are {', '.join(DEQUANTIZED)}; GGUF files are in any case.\n"
            f"{'Give the checkpoint that it was made from.' if kind else 'Leave the option out.'}"
        )
    if kind in (None, BNB) and wanted != "dequantize":
        bits = None if packed is None else _bits(packed)
        if bits is not None and wanted not in (None, bits):
            raise ModelError(
                f"{source} is quantised to {bits} already, and {wanted} is asked for.\n"
                "Weights are quantised once, from floats.\n"
                "Leave `--model.quantization` out, or give the checkpoint that it was made from."
            )
        if adapted and (bits or wanted):
            raise ModelError(
                f"An adapter is to be merged into {source} {'quantised to ' + (bits or str(wanted))}.\n"
                "The sum would be rounded to other steps than either.\n"
                + (
                    "Merge it into floats first, in Python `load_model(ADAPTER).save_pretrained(MERGED)`, then "
                    f"`--model.target MERGED --model.tokenizer {source} --model.quantization {wanted}`."
                    if bits is None
                    else "Merge it into the weights that it was trained on: `--model.quantization dequantize`."
                )
            )
    elif wanted != "dequantize":
        way = "load its weights dequantised: `--model.quantization dequantize`, in Python `quantization='dequantize'`"
        raise ModelError(
            f"{source} is quantised ({kind}).\n"
            f"Packed weights are read as {BNB} writes them, in 8 or 4 bits; of other formats none is loaded as it is.\n"
            f"Give the checkpoint that it was made from{f', or {way}' if kind in DEQUANTIZED else ''}."
        )
    if BNB in (kind, BNB if wanted in ("8bit", "4bit") else kind) and importlib.util.find_spec(BNB) is None:
        raise ModelError(
            f"{source} {'is' if kind else 'would be'} quantised by {BNB}, which is not installed.\n"
            "Packed weights are computed with by its code.\nInstall it: `pip install 'sa_lightning[quantised]'`."
        )


def loading_options(
    config: PretrainedConfig, wanted: Quantization | None, device: torch.device | str
) -> dict[str, Any]:
    """Return what `from_pretrained` is asked for besides, of what `check_quantization` has let pass.

    Weights that bitsandbytes packs, or has packed, go to their device at once: they are packed there.
    """
    packed = packed_as(config)
    if packed is not None and packed["quant_method"] != BNB:
        config.quantization_config = {**packed, "dequantize": True}
        return {"config": config}
    if packed is None and wanted is None:
        return {}
    logging.getLogger(BNB).setLevel(logging.ERROR)  # a line for every type that it casts
    asked: dict[str, Any] = {"device_map": {"": device}}
    if packed is None:
        how: dict[str, Any] = {"load_in_8bit": True}
        if wanted == "4bit":
            how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
        asked["quantization_config"] = BitsAndBytesConfig(**how)
    return asked


def settled(model: Any, config: PretrainedConfig, wanted: Quantization | None) -> Any:
    """Return a model that was loaded with `loading_options`, ready to compute.

    Layers of 4 bits compute in the type of the stream, where transformers' default is float32, and keep their weights
    as they are stored: on some CPUs bitsandbytes would order them anew at the first forward, round their scales to
    bfloat16, and save them wrongly after that.
    """
    packed = packed_as(config)
    if wanted == "dequantize":
        kind = describe(packed or {})
        model = model.dequantize() if packed is not None and packed["quant_method"] == BNB else model
        model.config.sa_quantization = f"{kind}, dequantised"
        return model
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if packed is None and wanted == "4bit" and hasattr(module, "quant_state"):
            module.compute_dtype, module.compute_type_is_set = model.dtype, True
    if packed is None and wanted == "4bit":
        model.config.quantization_config.bnb_4bit_compute_dtype = model.dtype
    return model


def quantization_of(model: nn.Module) -> str | None:
    """Say how the weights of a loaded model are, or once were, quantised: for records; None where that is not known.

    Such as `4bit, bitsandbytes nf4`, `mxfp4, dequantised` or `GGUF Q4_1 + F32, dequantised`.
    """
    config: Any = model.config
    before = getattr(config, "sa_quantization", None)  # saved with the model
    record = Path(str(getattr(config, "_name_or_path", ""))) / RECORD
    if before is None and record.is_file():
        before = f"GGUF {json.loads(record.read_text(encoding='utf-8'))['quantisation']}, dequantised"
    packed = packed_as(config)
    return "; then ".join(str(one) for one in (before, packed and describe(packed)) if one) or None


def describe(packed: Mapping[str, Any]) -> str:
    """Say how weights are packed, in a few words."""
    kind = packed.get("quant_method")
    if kind != BNB:
        return str(kind)
    bits = _bits(packed)
    if bits == "8bit":
        return f"8bit, {BNB}"
    double = ", scales quantised" if packed.get("bnb_4bit_use_double_quant") else ""
    return f"4bit, {BNB} {packed.get('bnb_4bit_quant_type', 'fp4')}{double}"


def _bits(packed: Mapping[str, Any]) -> Literal["8bit", "4bit"]:
    return "4bit" if packed.get("load_in_4bit") or packed.get("_load_in_4bit") else "8bit"
