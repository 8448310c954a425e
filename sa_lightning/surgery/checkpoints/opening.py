"""From a source, as a person names it, to an opened checkpoint."""

import os
import re
from pathlib import Path
from typing import Any

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery.checkpoints.adapter import AdaptedCheckpoint, refuse_unsupported
from sa_lightning.surgery.checkpoints.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    INDEX,
    SINGLE,
    Checkpoint,
)
from sa_lightning.surgery.checkpoints.inside import shard_name
from sa_lightning.surgery.checkpoints.json_files import AdapterConfig, Config, Index, read_json
from sa_lightning.surgery.checkpoints.shard import Shard

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
DEEPEST = 8  # adapters over each other
LONGEST = 200  # letters of a name in a message


HUB_FILES = [
    "model*.safetensors",
    ADAPTER_WEIGHTS,
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "tokenizer*",
]


def open_checkpoint(
    source: str | Path,
    *,
    revision: str | None = None,
    adapter_base: str | Path | None = None,
    fetch: bool = True,
    over: tuple[Path, ...] = (),
) -> Checkpoint:
    """Open a checkpoint by its headers; no tensor is read, tied embeddings aside.

    Args:
        source: A local directory with `model.safetensors` or shards and their index, a
            PEFT LoRA adapter, or a repository on the Hugging Face Hub.
        revision: Branch, tag or commit of a repository on the Hub.
        adapter_base: The checkpoint that an adapter changes, if not the one it names.
        fetch: Whether a repository that is not in the cache may be downloaded.
        over: Adapters that this one is the base of.

    Raises:
        CheckpointError: If there is nothing at `source`, if it holds no safetensors (no
            pickle is ever read), if the weights are quantised, or if a file is cut off,
            or missing, or contradicts the index.
    """
    path = _find_directory(str(source), revision, fetch)
    there = [name for name in (ADAPTER_CONFIG, SINGLE, INDEX) if (path / name).is_file()]
    if len(there) > 1 and not _names_single(path, there):
        raise CheckpointError(
            f"{source} holds {' and '.join(there)}, so it is two things at once.\n"
            "Which of them is meant cannot be known, and others might read the other.\nMove one of them away."
        )
    if ADAPTER_CONFIG in there:
        if path.resolve() in over or len(over) == DEEPEST:
            raise CheckpointError(
                f"{source} is an adapter whose base is an adapter, and so on, {len(over)} deep or without an end.\n"
                "An adapter is a change of a checkpoint.\nName that as `base_model_name_or_path`."
            )
        return _open_adapter(str(source), path, adapter_base, fetch, (*over, path.resolve()))
    return _open_directory(str(source), path)


def _names_single(path: Path, there: list[str]) -> bool:
    """Whether an index beside a single file is the index of that file."""
    return there == [SINGLE, INDEX] and set(map(str, _weight_map(path).values())) == {SINGLE}


def _open_directory(source: str, path: Path) -> Checkpoint:
    config = read_json(path / "config.json", Config) if (path / "config.json").is_file() else {}
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{source} is quantised ({config['quantization_config'].get('quant_method')}).\n"
            "Arithmetic on packed weights means nothing. Give the checkpoint it was made from."
        )
    if (path / SINGLE).is_file():
        return Checkpoint(source, path, {SINGLE: Shard(path / SINGLE)}, config)
    if (path / INDEX).is_file():
        return Checkpoint(source, path, _open_shards(path), config)
    raise _no_weights(source, path)


def _open_adapter(
    source: str, path: Path, base: str | Path | None, fetch: bool, over: tuple[Path, ...]
) -> AdaptedCheckpoint:
    """Open the adapter in `path` over `base`, or over the checkpoint it names."""
    settings = read_json(path / ADAPTER_CONFIG, AdapterConfig)
    refuse_unsupported(source, settings)
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(
            f"{source} has no `{ADAPTER_WEIGHTS}` beside its `{ADAPTER_CONFIG}`.\n"
            "No pickle is read. Save the adapter again with `save_pretrained`."
        )
    named = base or settings.get("base_model_name_or_path")
    if not named:
        raise CheckpointError(f"{source} is an adapter that does not name its base checkpoint.")
    if base is None and not is_directory(named) and is_directory(path / named):
        named = path / named
    opened = open_checkpoint(named, revision=None if base else settings.get("revision"), fetch=fetch, over=over)
    return AdaptedCheckpoint(source, path, opened, settings)


def is_directory(path: str | Path) -> bool:
    """Whether there is a directory; of a name that no file can have, too, there is none."""
    try:
        return Path(path).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):  # too long; no such user; not of the encoding of files
        return False


def _find_directory(source: str, revision: str | None, fetch: bool) -> Path:
    if is_directory(source):
        return Path(source).expanduser()
    path = Path(source)
    if os.path.exists(source) or path.is_absolute() or not HUB_ID.fullmatch(source) or source[0] == ".":
        what = "is a file, not a directory" if os.path.exists(source) else "does not exist"
        raise CheckpointError(
            f"{source[:LONGEST]} {what}.\n"
            "A checkpoint is a directory with `model.safetensors` (or shards and their index) and "
            "`config.json`, or a repository on the Hugging Face Hub such as `org/model`."
        )
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(  # pyright: ignore[reportUnknownMemberType]
            source, revision=revision, allow_patterns=HUB_FILES, local_files_only=not fetch
        )
    except Exception as error:  # many kinds: offline, gated, no such repository, no network
        if not fetch:
            raise CheckpointError(
                f"{source} is no directory here, and not in the cache of the Hugging Face Hub.\n"
                "It is named by a record, and what a record names is not fetched unasked.\n"
                "Say `--steering.trust_record true` (in lm-eval `trust_record=true`), or fetch it yourself: "
                "`hf download REPOSITORY`."
            ) from error
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{source} is no directory here, and the Hugging Face Hub did not give it "
            f"({type(error).__name__}: {reason})\n"
            "Check the spelling; offline (`HF_HUB_OFFLINE=1`), only what is in the cache is found."
        ) from error
    return Path(found)


def _open_shards(path: Path) -> dict[str, Shard]:
    index = path / INDEX
    wanted = _weight_map(path)
    files = sorted({shard_name(file, index) for file in wanted.values()})
    missing = [file for file in files if not (path / file).is_file()]
    if missing:
        raise CheckpointError(
            f"{index} names {missing[0]}, which is not there ({len(missing)} of {len(files)} shards "
            "are missing).\nThe download is probably incomplete. Fetch the missing files."
        )
    shards = {file: Shard(path / file) for file in files}
    stored = {(name, file) for file, shard in shards.items() for name in shard.tensors}
    for name, file in sorted(stored.symmetric_difference(wanted.items())):
        where = "does not list it there" if (name, file) in stored else "says so, wrongly"
        raise CheckpointError(
            f"`{name}` in {file}: {index} {where}.\n"
            "Index and shards do not belong together. Fetch or save the checkpoint again."
        )
    return shards


def _weight_map(path: Path) -> dict[str, Any]:
    """Where each tensor is, as an index says; not yet that the values are names of shards."""
    found = read_json(path / INDEX, Index).get("weight_map")
    if not found:
        raise CheckpointError(f"{path / INDEX} has no `weight_map`, so it does not say where tensors are.")
    return found


def _no_weights(source: str, path: Path) -> CheckpointError:
    files = sorted(file.name for file in path.iterdir() if file.is_file())
    pickles = [name for name in files if name.endswith(PICKLES)]
    if pickles:
        return CheckpointError(
            f"{source} holds its weights as pickle only ({pickles[0]}), which we never read: a "
            "pickle can run any code.\nConvert it to safetensors where you trust it: "
            "`AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)`."
        )
    found = ", ".join(files[:5]) or "nothing"
    return CheckpointError(
        f"{source} has no weights: neither `{SINGLE}` nor `{INDEX}` is there, only {found}.\n"
        "Give the directory that `save_pretrained` wrote."
    )
