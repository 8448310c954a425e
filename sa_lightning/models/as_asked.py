"""Is the model that libraries would load, or have loaded, the one that was asked for? Refuse it by name if not."""

import copy
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from sa_lightning.errors import CheckpointError, ModelError, SaError
from sa_lightning.models.blocks import locate_blocks
from sa_lightning.weight_files import is_weight, stored_tensors

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SIZES = ("num_hidden_layers", "hidden_size", "vocab_size")
NO_WORDS = re.compile(r"For(Sequence|Token|Image)Classification|ForQuestionAnswering|ForMultipleChoice|RewardModel")
LEFT_BEHIND = re.compile(r"(inv_freq|position_ids|masked_bias|\battn\.bias|\battention\.bias)$")  # buffers of old
MOST_VALUES = 2  # of a model, per value in its files: shared weights are stored once


@contextmanager
def in_our_words(fact: str, remedy: str) -> Iterator[None]:
    """Turn what libraries raise into a ModelError of three lines: the fact, what they say, and the way out."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # its report comes as an error of ours
    try:
        yield
    except SaError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelError(
            f"{fact}.\n{brief(error)}\nFree memory, or take a smaller model or type of weights."
        ) from error
    except Exception as error:  # of transformers, peft, safetensors, tokenizers, torch, json: every kind there is
        raise ModelError(f"{fact}.\n{brief(error)}\n{remedy}") from error
    finally:
        transformers.logging.set_verbosity(level)


def brief(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says, or two where the first one leads to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["it says nothing more"]
    message = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
    return f"{type(error).__name__}: {message[:300]}"


def auto_class(config: PretrainedConfig) -> Any:
    """The class of transformers that loads a language model, of a multimodal checkpoint the whole that holds it."""
    known: Any = AutoModelForCausalLM._model_mapping  # pyright: ignore[reportPrivateUsage]
    whole: Any = AutoModelForImageTextToText._model_mapping  # pyright: ignore[reportPrivateUsage]
    kind = type(config)  # asked for by name: the `keys()` of these import every family that there is, for seconds
    return AutoModelForImageTextToText if kind in whole and kind not in known else AutoModelForCausalLM


def check_config(config: PretrainedConfig, source: str) -> None:
    """Refuse, by its config, a model that is no causal language model, or of no size.

    Raises:
        ModelError: With what the config says.
    """
    text: Any = config.get_text_config(decoder=True)
    heads = [str(name) for name in getattr(config, "architectures", None) or ()]
    if heads and all(NO_WORDS.search(name) for name in heads):
        raise ModelError(
            f"{source} is a {heads[0]}, which has no language-model head.\nIt writes no replies.\n"
            "Give the causal language model that it was made from."
        )
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"{source} is an encoder (`{config.model_type}`): it fills gaps in a text.\n"
            "It writes no replies.\nGive a causal language model."
        )
    for name in SIZES:
        value = getattr(text, name, None)
        if value is not None and (type(value) is not int or value < 1):
            raise ModelError(
                f"The config of {source} says `{name}`: {value!r}.\nA model has at least one of each.\n"
                "Fetch its config.json again."
            )
    parts = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", {}))]
    for part, name in itertools.product(parts, ("_attn_implementation", "_experts_implementation")):
        value = str(getattr(part, name, None) or "")
        if "/" in value:
            raise ModelError(
                f"The config of {source} asks for the code `{value}` ({name.strip('_')}), which would be fetched.\n"
                "No config makes a program fetch code.\nTake the line out of its config.json."
            )
    if getattr(config, "transformers_weights", None):
        raise ModelError(
            f"The config of {source} names its own file of weights (`transformers_weights`).\n"
            "Weights are read from `model.safetensors`, or from the shards of its index.\n"
            "Rename the file, and take the line out of its config.json."
        )


def check_stored(
    config: PretrainedConfig, source: str, directory: Path, known_class: bool, packed: bool = False
) -> None:
    """Refuse a local checkpoint by the headers of its files, before any weight is read.

    Args:
        config: Its config.
        source: How messages call it.
        directory: Where it lies.
        known_class: Whether its class is one of transformers' own, so that it can be built without weights.
        packed: Whether its config says that weights are packed, in a format that is loaded.

    Raises:
        ModelError: If files are missing, damaged or of two checkpoints, weights are no floats, or the config describes
            a model much larger than the files hold.
    """
    try:
        stored = stored_tensors(directory)
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    strange = [name for name, tensor in stored.items() if tensor.dtype not in FLOATS and is_weight(name, tensor)]
    if strange and not packed:
        kind = str(stored[strange[0]].dtype).removeprefix("torch.")
        raise ModelError(
            f"{source} stores {len(strange)} weights as no floats, `{strange[0]}` as {kind}.\n"
            "They are packed, or not weights of a language model.\nGive the checkpoint that it was made from."
        )
    if packed and all(tensor.dtype in FLOATS for tensor in stored.values()):
        raise ModelError(
            f"The config of {source} says that its weights are packed, but its files hold floats alone.\n"
            "They would be taken for packed ones.\n"
            "Take `quantization_config` out of its config.json, or fetch it again."
        )
    in_pairs = torch.uint8 if packed else None  # two values of 4 bits
    values = sum(math.prod(tensor.shape) * (1 + (tensor.dtype == in_pairs)) for tensor in stored.values())
    check_size(config, source, len(stored), values, known_class)


def check_size(config: PretrainedConfig, source: str, tensors: int, values: int, known_class: bool = True) -> None:
    """Refuse a config that describes a model much larger than its files: it would be made, at random.

    Args:
        config: Of the model.
        source: How messages call it.
        tensors: How many the files hold.
        values: How many values they have.
        known_class: Whether the class is one of transformers' own.

    Raises:
        ModelError: With the sizes of both, or if no model can be made of the config at all.
    """
    depth = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None) or 1
    needed = 0 if depth <= tensors else math.inf
    if known_class and depth <= tensors:
        with (
            in_our_words(f"The config of {source} describes no model", "Fetch its config.json again."),
            torch.device("meta"),
        ):
            model: Any = auto_class(config).from_config(copy.deepcopy(config))
        needed = sum(parameter.numel() for parameter in model.parameters())
    if needed > MOST_VALUES * values + 1_000_000:
        raise ModelError(
            f"The config of {source} describes {depth} layers and {needed:,} values, but its files hold {tensors} "
            f"tensors of {values:,} values.\nWhat is missing would be random.\n"
            "Config and weights do not belong together: fetch both again."
        )


def check_loaded(model: Any, report: Mapping[str, Any], source: str, packed: bool = False) -> None:
    """Refuse a model some of whose weights are random, left out of it, or no floats.

    Unexpected tensors are refused where they belong to the decoder's blocks, such as a layer more than the config
    says, or a bias that it leaves out; those of other modules (vision, audio, a value head) and buffers that older
    versions stored are left alone.

    Args:
        model: As transformers has loaded it.
        report: Its `loading_info`.
        source: How messages call it.
        packed: Whether weights are to be packed.

    Raises:
        ModelError: With the names of the tensors.
    """
    kind = type(model).__name__
    if getattr(model, "_hf_peft_config_loaded", False):  # transformers follows an adapter of the Hub by itself
        raise ModelError(
            f"{source} is an adapter on the Hub.\nOnly a local one is merged.\n"
            "Download it (`hf download`), and give the directory."
        )
    if wrong := sorted(report["mismatched_keys"]):
        name, stored, wanted = wrong[0]
        raise ModelError(
            f"{source} stores `{name}` as {tuple(stored)}, but its config makes it {tuple(wanted)} in a {kind} "
            f"({len(wrong)} tensors differ).\nThey would be random.\n"
            "Config and weights do not belong together: fetch both again."
        )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{source} lacks {_names(missing)} of a {kind}.\nThey would be random.\n"
            "Fetch or save it again; the config may also describe another model."
        )
    layers = locate_blocks(model).path if report["unexpected_keys"] else ""
    others = sorted(key for key in report["unexpected_keys"] if _in_blocks(key, layers) and not LEFT_BEHIND.search(key))
    if others:
        raise ModelError(
            f"{source} holds {_names(others)}, for which a {kind} of its config has no place.\n"
            "It would be another model without them.\n"
            "Config and weights do not belong together: fetch both again."
        )
    strange = [name for name, weight in model.named_parameters() if weight.dtype not in FLOATS]
    if strange and not packed:
        raise ModelError(
            f"{source} has weights that are no floats: {_names(strange)}.\nThey are packed.\n"
            "Give the checkpoint that it was made from."
        )


@torch.no_grad()
def check_runs(model: PreTrainedModel, source: str) -> None:
    """Generate one token after two, and refuse one that cannot, or whose logits are not finite.

    Raises:
        ModelError: With what happened.
    """
    text: Any = model.config.get_text_config(decoder=True)
    rows = getattr(text, "vocab_size", 2)
    ids = torch.tensor([[rows // 2, rows // 3]], device=model.device)
    generate: Any = model.generate
    with in_our_words(f"{source} is loaded, but cannot run", "Fetch its config.json and generation_config.json again."):
        said = generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=1,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    if not bool(torch.isfinite(said.logits[0]).all()):
        raise ModelError(
            f"The logits of {source} are not finite after the tokens {ids.tolist()[0]}.\n"
            "Its weights are damaged, or too large for their type.\n"
            "Fetch it again, or load it in another type: `--model.dtype float32`."
        )


def _in_blocks(key: str, layers: str) -> bool:
    """Whether a tensor belongs to the decoder's blocks, perhaps to one that the model does not have."""
    return key.startswith(layers + ".")


def _names(names: list[str]) -> str:
    """The first names, and how many there are."""
    more = f" and {len(names) - 3} more tensors" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more
