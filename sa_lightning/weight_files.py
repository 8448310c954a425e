"""Which files hold a checkpoint's weights, and what is in them, from their headers alone."""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sa_lightning.errors import CheckpointError
from sa_lightning.schema import conforms

__all__ = [
    "DEQUANTIZED",
    "DTYPES",
    "INDEX",
    "PREFIX",
    "SINGLE",
    "Header",
    "StoredTensor",
    "index_shards",
    "is_weight",
    "read_header",
    "read_object",
    "stored_files",
    "stored_tensors",
]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DEQUANTIZED = ("bitsandbytes", "mxfp4", "fp8")  # formats of packed weights that are unpacked where that is asked for
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TIED = ("lm_head.weight", "embed_out.weight")  # which converters leave out of the shards, but not out of the index
#: What stands before the same names: a model saved without its head lacks some of it, a multimodal one has more.
PREFIX = re.compile(r"^((base_model|model|language_model|transformer|gpt_neox)\.)+")
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LONGEST_HEADER = 100_000_000  # the bound of the format
LONGEST_NAME = 500  # letters; far beyond any module's


class StoredTensor(NamedTuple):
    """Type and shape of one tensor, and where its bytes lie in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


Header = tuple[dict[str, StoredTensor], dict[str, str]]
"""The tensors of a file by name, in the order of their bytes, and its metadata."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        CheckpointError: If the file cannot be read, or holds something else.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {error}.\nIt is damaged, or was cut short.\nFetch or save it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds no JSON object, but {type(content).__name__}.\nIt is no configuration.\n"
            "Fetch or save it again."
        )
    return content


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, and check it against the length of the file.

    The format: https://github.com/huggingface/safetensors#format.

    Raises:
        CheckpointError: If the file is cut short, or its header contradicts itself or the file.
    """
    try:
        return _header(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}.\n"
            "It was probably cut off while it was written or downloaded.\nFetch it again."
        ) from error


def _header(path: Path) -> Header:
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no file")
    total = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if total < 8 or length > min(total - 8, LONGEST_HEADER):
            raise ValueError(f"its header would need {length} bytes, but the file has {total}")
        entries: Any = json.loads(file.read(length), object_pairs_hook=_once)
    if not isinstance(entries, dict):
        raise ValueError("its header is no JSON object")
    metadata = entries.pop("__metadata__", None) or {}
    if not conforms(metadata, dict[str, str]):
        raise ValueError("its `__metadata__` is no object of texts")
    end = 8 + length
    tensors: dict[str, StoredTensor] = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise ValueError(f"{name[:80]!r} of {len(name)} letters is no name of a tensor")
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"`{name}` has the unknown data type {entry['dtype']}")
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        if not conforms([*shape, *entry["data_offsets"]], list[int]) or min(shape, default=0) < 0:
            raise ValueError(f"`{name}` has the shape {list(shape)} and the place {entry['data_offsets']}")
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        if start != end or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"`{name}` does not have the place that its shape {shape} needs")
        tensors[name] = StoredTensor(dtype, shape, start, stop - start)
        end = stop
    if end != total:
        raise ValueError(f"its tensors need {end} bytes, but the file has {total}")
    return tensors, metadata


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose names is there twice, of which one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a name twice")
    return found


def index_shards(index: Path) -> dict[str, str]:
    """Read which tensor lies in which file beside an index.

    Raises:
        CheckpointError: If the index says nothing, or names a file that is not there or not beside it.
    """
    wanted = read_object(index).get("weight_map")
    if not isinstance(wanted, dict) or not wanted:
        raise CheckpointError(
            f"{index} has no `weight_map`.\nIt does not say which file holds which tensor.\nFetch or save it again."
        )
    for name in wanted.values():
        printable = isinstance(name, str) and name.isprintable() and not set(name) & set("/\\")
        if not (printable and name.endswith(".safetensors") and name[0] != "." and len(name.encode()) <= 255):
            raise CheckpointError(
                f"{index} names the shard {name!r}, which is no safetensors file beside it.\n"
                "What an index names is read, and written under the same name.\n"
                "Rename the shard to model-….safetensors, there and in the index, or save the checkpoint again."
            )
    files = sorted(set(wanted.values()))
    missing = [file for file in files if not (index.parent / file).is_file()]
    if missing:
        raise CheckpointError(
            f"{index} names {missing[0]}, which is not there ({len(missing)} of {len(files)} shards are missing).\n"
            "The download is probably incomplete.\nFetch the missing files."
        )
    return wanted


def is_weight(name: str, tensor: StoredTensor) -> bool:
    """Whether a stored tensor is a weight, packed or not, and no mask or list of positions."""
    leaf = name.rpartition(".")[2]
    return leaf in ("weight", "qweight") or (leaf == "bias" and len(tensor.shape) == 1)


def stored_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Return all tensors of a local checkpoint by name; errors as of `stored_files`."""
    return {name: tensor for tensors, _ in stored_files(directory).values() for name, tensor in tensors.items()}


def stored_files(directory: Path) -> dict[str, Header]:
    """Return the header of each file of a local checkpoint, of the one set of files that it has.

    Raises:
        CheckpointError: If there are no safetensors (no pickle is read), two sets of them, a damaged file, an
            index that contradicts its files, or a tensor under two names, of which a loader takes either.
    """
    found = _stored_files(directory)
    spelled: dict[str, str] = {}
    for name in (name for tensors, _ in found.values() for name in tensors):
        other = spelled.setdefault(PREFIX.sub("", name), name)
        if other != name:
            raise CheckpointError(
                f"{directory} holds `{other}` and `{name}`, which a model has as one tensor.\n"
                "A loader takes one of the two, and nothing says which one is meant.\nSave the checkpoint again."
            )
    return found


def _stored_files(directory: Path) -> dict[str, Header]:
    single, index = directory / SINGLE, directory / INDEX
    if not index.is_file():
        if not single.is_file():
            raise _no_weights(directory)
        return {SINGLE: read_header(single)}
    wanted = index_shards(index)
    if single.is_file() and set(wanted.values()) != {SINGLE}:
        raise CheckpointError(
            f"{directory} holds two checkpoints: `{SINGLE}`, and the shards that `{INDEX}` names.\n"
            "Nothing says which one is meant.\nMove one of the two elsewhere."
        )
    found = {file: read_header(directory / file) for file in sorted(set(wanted.values()))}
    held = {(name, file) for file, (tensors, _) in found.items() for name in tensors}
    stored = {name for name, _ in held}
    for name, file in sorted(held.symmetric_difference(wanted.items())):
        if name in TIED and name not in stored:
            continue
        where = "does not list it there" if (name, file) in held else "says so, wrongly"
        raise CheckpointError(
            f"`{name}` in {file}: {index} {where}.\n"
            "Index and shards do not belong together.\nFetch or save the checkpoint again."
        )
    return found


def _no_weights(directory: Path) -> CheckpointError:
    files = sorted(file.name for file in directory.iterdir() if file.is_file())
    if pickles := [name for name in files if name.endswith(PICKLES)]:
        return CheckpointError(
            f"{directory} holds its weights as pickle only ({pickles[0]}).\n"
            "No pickle is ever read: it can run any code.\n"
            "Where you trust it, convert it: `AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)`."
        )
    return CheckpointError(
        f"{directory} has no weights: neither `{SINGLE}` nor `{INDEX}` is there, only "
        f"{', '.join(files[:5]) or 'nothing'}.\nA config alone is no model.\n"
        "Give the directory that `save_pretrained` wrote."
    )
