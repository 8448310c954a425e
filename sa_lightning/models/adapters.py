"""PEFT adapters over their base, merged: only if every tensor of them finds its place."""

import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sa_lightning.errors import CheckpointError, ModelError
from sa_lightning.files import Json
from sa_lightning.foreign.patterns import first_match
from sa_lightning.models.as_asked import FLOATS, in_our_words
from sa_lightning.models.blocks import locate_blocks
from sa_lightning.models.gguf import plain
from sa_lightning.source import ADAPTER_CONFIG as CONFIG
from sa_lightning.source import is_adapter, is_quantised, other_base, read
from sa_lightning.weight_files import INDEX, SINGLE, read_header, read_object

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
# Settings of adapters that act at some tokens only, replace layers, or import a module that the file names.
REFUSED = ("alora_invocation_tokens", "arrow_config", "layer_replication", "megatron_config")
PATTERNS = {  # settings whose text, or keys, are regular expressions: how peft matches names of modules with them
    "target_modules": "(?:PATTERN)$",
    "exclude_modules": "(?:PATTERN)$",
    "rank_pattern": r"(.*\.)?(?:PATTERN)$",
    "alpha_pattern": r"(.*\.)?(?:PATTERN)$",
}
FACTOR = re.compile(r"\.(lora_(embedding_)?[AB]|lora_magnitude_vector|lora_bias)\b.*$")


def base_of(source: str) -> str:
    """Return the checkpoint that adapters belong to; of a checkpoint itself; of a GGUF file its conversion.

    Raises:
        ModelError: If an adapter names no base, or one that is itself an adapter, or if a directory is both.
        SettingError: If a sum is none.
    """
    base, adapters = read(source)
    for adapter, _ in adapters:
        for name in (SINGLE, INDEX):
            if (Path(adapter) / name).is_file():
                raise ModelError(
                    f"{adapter} is two models at once: an adapter (`{CONFIG}`) and a checkpoint (`{name}`).\n"
                    "Nothing says which one is meant.\nMove one of the two into a directory of its own."
                )
    return plain(base if base is not None else named_base(adapters[0][0]))


def named_base(adapter: str) -> str:
    """Return the base that an adapter names.

    Raises:
        ModelError: As of `base_of`, or if it is quantised.
    """
    name = adapter_config(adapter).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(
            f"{adapter} is an adapter that names no base: `base_model_name_or_path` is {name!r}.\n"
            "It is added to the weights of its base.\n"
            f"Write the directory or Hub id of the base into its {CONFIG}, or in front: `BASE + {adapter}`."
        )
    # A relative base may be meant from the adapter's own directory.
    beside = Path(adapter) / name
    name = str(beside) if not os.path.exists(name) and os.path.exists(beside) else name
    if is_adapter(name):
        raise ModelError(
            f"The base of the adapter {adapter} is {name}, an adapter as well.\nOne adapter is added to a checkpoint.\n"
            f"Name that and both: `CHECKPOINT + {name} + {adapter}`; or merge the inner one with peft's "
            "`merge_and_unload`, save it, and name that as the base."
        )
    if is_quantised(name):
        raise ModelError(
            f"The adapter {adapter} was trained on {name}, whose weights are rounded to few bits.\n"
            "It is merged into whole weights, not into packed ones.\n"
            f"Name the checkpoint that {name} was made from: `CHECKPOINT + {adapter}`."
        )
    return name


def adapter_config(source: str) -> Json:
    """Read adapter_config.json.

    Raises:
        ModelError: If it is no JSON object.
    """
    try:
        return read_object(Path(source) / CONFIG)
    except CheckpointError as error:
        raise ModelError(str(error)) from error


def base_revision(source: str, revision: str | None) -> str | None:
    """Return the revision of the checkpoint: of an adapter's own base, the one that the adapter records."""
    base, adapters = read(source)
    if base is not None:
        return revision
    named = adapter_config(adapters[0][0]).get("revision")
    return named if isinstance(named, str) else None


def merge_adapters(model: PreTrainedModel, source: str) -> PreTrainedModel:
    """Add the adapters of a sum to its base, in place: θ = W + Σ wᵢ (mergeᵢ(W) − W); return the plain model.

    One adapter of weight 1 is merged by peft. Others are formed in float32 by the formula of `surgery`, some rows at a
    time, and rounded once.

    Raises:
        ModelError: As of `merge_adapter`; where adapters are several or weighed, also of kinds other than LoRA.
    """
    base, adapters = read(source)
    given = base_of(source)
    for adapter, _ in adapters if base is not None else adapters[1:]:
        named = adapter_config(adapter).get("base_model_name_or_path")
        if remark := other_base(adapter, named if isinstance(named, str) else None, given):
            warnings.warn(remark, stacklevel=3)
    if [weight for _, weight in adapters] == [1.0]:
        return merge_adapter(model, adapters[0][0], given)
    from sa_lightning.surgery.checkpoints.adapted import Added, Sum
    from sa_lightning.surgery.checkpoints.adapter import adapts_ends, read_settings
    from sa_lightning.surgery.checkpoints.slices import rows_of, slices
    from sa_lightning.surgery.checkpoints.weights import ModelWeights

    tied = next(iter(ModelWeights(model).aliases.items()), None)
    if any(adapts_ends(Path(adapter)) for adapter, _ in adapters):
        _give_head(model)
    weights = ModelWeights(model, given)
    try:
        added = [Added(name, Path(name), weight, read_settings(name, Path(name))) for name, weight in adapters]
        total = Sum(weights, added, tied)
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    for name in total.changed:
        parameter = weights.parameter(name).detach()
        formed = [(piece, total.rows(piece)) for piece in slices(name, tuple(parameter.shape))]
        for piece, rows in formed:
            rows_of(parameter, piece).copy_(rows)
    return model


def merge_adapter(model: PreTrainedModel, adapter: str, base: str = "") -> PreTrainedModel:
    """Merge a PEFT adapter into a model, in place, and return the plain model.

    Args:
        model: The base.
        adapter: Directory of the adapter.
        base: How messages call the base; by default as the adapter does.

    An adapter that was trained on the text model of a multimodal checkpoint is matched with that model. One that
    changes the head or the embeddings of a tied model unties them, so that the logits are those of peft.

    Raises:
        ModelError: If the adapter cannot be read or merged, or some of its tensors find no module, or some modules
            no tensor.
    """
    stored, base = check_adapter(adapter), base or base_of(adapter)
    _check_patterns(adapter, [name for name, _ in model.named_modules()])
    from peft import PeftConfig, PeftModel  # a second of import that only adapters pay

    remedy = "Give the base that it was trained on, or merge it with peft's `merge_and_unload`, and save that."
    with (
        in_our_words(f"The adapter {adapter} cannot be merged into {base}", remedy),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*(tie_word_embeddings|no longer tied).*")  # untied below
        config: Any = PeftConfig.from_pretrained(adapter)
        config.inference_mode = True
        renamed = _renaming(model, stored)
        if renamed:
            _rename(config, renamed, stored)
        wrapped: Any = PeftModel(model, config)
        if not hasattr(wrapped.base_model, "merge_and_unload"):
            raise ModelError(
                f"The adapter {adapter} is of the kind {config.peft_type.value}, which cannot be merged.\n"
                "It adds to the prompt, not to the weights.\nGive a LoRA, or another adapter of weights."
            )
        result = wrapped.load_adapter(adapter, "default", torch_device="cpu", key_mapping=renamed)
        _check_result(result, adapter, base)
        _untie(wrapped.get_base_model())
        merged: Any = wrapped.merge_and_unload()
    return merged


def check_adapter(adapter: str) -> list[str]:
    """Refuse an adapter by its config and the header of its weights; return the names of its tensors.

    Raises:
        ModelError: If it is damaged, stored as pickle, or cannot be merged exactly.
    """
    settings = adapter_config(adapter)
    if found := [name for name in REFUSED if settings.get(name)]:
        raise ModelError(
            f"The adapter {adapter} has `{found[0]}`, with which it cannot be merged.\n"
            "Merged, it would act elsewhere than in peft.\nGive a plain LoRA, or a merged checkpoint."
        )
    path = Path(adapter) / WEIGHTS
    if not path.is_file():
        raise ModelError(
            f"{adapter} has no `{WEIGHTS}` beside its `{CONFIG}`.\nNo pickle is read: it can run any code.\n"
            "Save the adapter again with peft's `save_pretrained`."
        )
    try:
        header, _ = read_header(path)
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    if not header:
        raise ModelError(f"{path} holds no tensor.\nThe adapter would change nothing.\nSave it again.")
    strange = [name for name, tensor in header.items() if tensor.dtype not in FLOATS]
    if strange:
        raise ModelError(
            f"{path} stores `{strange[0]}` as {header[strange[0]].dtype}.\nWeights are floats.\nSave it again."
        )
    return list(header)


def _check_patterns(adapter: str, names: list[str]) -> None:
    """Refuse regular expressions that are none, or take longer than anyone waits, before peft matches them."""
    settings = adapter_config(adapter)
    for name, form in PATTERNS.items():
        value: Any = settings.get(name)
        patterns = [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []
        try:
            first_match(patterns, names, form)
        except ValueError as error:
            raise ModelError(
                f"The adapter {adapter} has {error} as `{name}`: {str(patterns)[:80]}.\n"
                "It says which modules are meant.\nName them, or give a simpler pattern."
            ) from error


def _check_result(result: Any, adapter: str, base: str) -> None:
    """Refuse an adapter whose tensors and the modules of the base do not match one to one."""
    lost, empty = sorted(result.unexpected_keys), sorted(result.missing_keys)
    if lost:
        raise ModelError(
            f"{len(lost)} tensors of the adapter {adapter} find no module in {base}, such as `{lost[0]}`.\n"
            "They would be ignored.\nGive the base that it was trained on."
        )
    if empty:
        raise ModelError(
            f"The adapter {adapter} lacks {len(empty)} tensors for {base}, such as `{empty[0]}`.\n"
            "They would be random.\nGive the base that it was trained on, or save the adapter again."
        )


def _renaming(model: PreTrainedModel, stored: Iterable[str]) -> dict[str, str]:
    """Names of a text model in a multimodal one: pattern and replacement; none where they are the same."""
    path = locate_blocks(model).path  # model.language_model.layers
    decoder, _, layers = path.rpartition(".")
    found = {key.removeprefix(PREFIX).partition(f".{layers}.")[0] for key in stored if f".{layers}." in key}
    if len(found) != 1 or decoder in found or f"{path}." in "".join(stored):
        return {}
    text = found.pop()
    return {rf"^{re.escape(text)}\.": f"{decoder}."}


def _rename(config: Any, renamed: dict[str, str], stored: Iterable[str]) -> None:
    """Let an adapter's settings mean the modules that its tensors belong to, under the names of the whole model."""
    (pattern, replacement), *_ = renamed.items()
    modules = {FACTOR.sub("", key.removeprefix(PREFIX)) for key in stored if FACTOR.search(key)}
    config.target_modules = {re.sub(pattern, replacement, module) for module in modules}
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    for name in ("rank_pattern", "alpha_pattern"):
        values = {re.sub(pattern, replacement, key.lstrip("^")): value for key, value in getattr(config, name).items()}
        setattr(config, name, values)


def _untie(model: Any) -> None:
    """Give the head weights of its own where an adapter changes it or the embeddings, and both were one tensor."""
    ends = [model.get_output_embeddings(), model.get_input_embeddings()]
    if any(hasattr(end, "base_layer") or hasattr(end, "modules_to_save") for end in ends):
        _give_head(model)


def _give_head(model: Any) -> None:
    """Give the head weights of its own where it is one tensor with the embeddings."""
    ends = [model.get_output_embeddings(), model.get_input_embeddings()]
    if None in ends:
        return
    head, embedding = (_plain_layer(end) for end in ends)
    if head.weight is embedding.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        for config in (model.config, model.config.get_text_config(decoder=True)):
            config.tie_word_embeddings = False


def _plain_layer(module: Any) -> Any:
    """The layer itself, without what peft has put around it."""
    while inner := getattr(module, "base_layer", None) or getattr(module, "original_module", None):
        module = inner
    return module
