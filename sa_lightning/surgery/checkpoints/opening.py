"""From a source, as a person names it, to an opened checkpoint."""

import re
from pathlib import Path

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery.checkpoints.adapter import AdaptedCheckpoint, refuse_unsupported
from sa_lightning.surgery.checkpoints.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    INDEX,
    SINGLE,
    Checkpoint,
    read_json,
)
from sa_lightning.surgery.checkpoints.inside import shard_name
from sa_lightning.surgery.checkpoints.shard import Shard

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


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
    source: str | Path, *, revision: str | None = None, adapter_base: str | Path | None = None
) -> Checkpoint:
    """Open a checkpoint by its headers; no tensor is read, tied embeddings aside.

    Args:
        source: A local directory with `model.safetensors` or shards and their index, a
            PEFT LoRA adapter, or a repository on the Hugging Face Hub.
        revision: Branch, tag or commit of a repository on the Hub.
        adapter_base: The checkpoint that an adapter changes, if not the one it names.

    Raises:
        CheckpointError: If there is nothing at `source`, if it holds no safetensors (no
            pickle is ever read), if the weights are quantised, or if a file is cut off,
            or missing, or contradicts the index.
    """
    path = _find_directory(str(source), revision)
    if (path / ADAPTER_CONFIG).is_file():
        return _open_adapter(str(source), path, adapter_base)
    return _open_directory(str(source), path)


def _open_directory(source: str, path: Path) -> Checkpoint:
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    if "quantization_config" in config:
        raise CheckpointError(
            f"{source} is quantised ({config['quantization_config'].get('quant_method')}).\n"
            "Arithmetic on packed weights means nothing. Give the checkpoint it was made from."
        )
    if (path / SINGLE).is_file():
        return Checkpoint(source, path, {SINGLE: Shard(path / SINGLE)}, config)
    if (path / INDEX).is_file():
        return Checkpoint(source, path, _open_shards(path), config)
    raise _no_weights(source, path)


def _open_adapter(source: str, path: Path, base: str | Path | None) -> AdaptedCheckpoint:
    """Open the adapter in `path` over `base`, or over the checkpoint it names."""
    settings = read_json(path / ADAPTER_CONFIG)
    refuse_unsupported(source, settings)
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(
            f"{source} has no `{ADAPTER_WEIGHTS}` beside its `{ADAPTER_CONFIG}`.\n"
            "No pickle is read. Save the adapter again with `save_pretrained`."
        )
    named = base or settings.get("base_model_name_or_path")
    if not named:
        raise CheckpointError(f"{source} is an adapter that does not name its base checkpoint.")
    if base is None and not Path(named).is_dir() and (path / named).is_dir():
        named = path / named
    opened = open_checkpoint(named, revision=None if base else settings.get("revision"))
    return AdaptedCheckpoint(source, path, opened, settings)


def _find_directory(source: str, revision: str | None) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or not HUB_ID.fullmatch(source) or source[0] == ".":
        what = "is a file, not a directory" if path.exists() else "does not exist"
        raise CheckpointError(
            f"{source} {what}.\n"
            "A checkpoint is a directory with `model.safetensors` (or shards and their index) and "
            "`config.json`, or a repository on the Hugging Face Hub such as `org/model`."
        )
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(  # pyright: ignore[reportUnknownMemberType]
            source, revision=revision, allow_patterns=HUB_FILES
        )
    except Exception as error:  # many kinds: offline, gated, no such repository, no network
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{source} is no directory here, and the Hugging Face Hub did not give it "
            f"({type(error).__name__}: {reason})\n"
            "Check the spelling; offline (`HF_HUB_OFFLINE=1`), only what is in the cache is found."
        ) from error
    return Path(found)


def _open_shards(path: Path) -> dict[str, Shard]:
    index = path / INDEX
    wanted: dict[str, str] | None = read_json(index).get("weight_map")
    if not isinstance(wanted, dict) or not wanted:
        raise CheckpointError(f"{index} has no `weight_map`, so it does not say where tensors are.")
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
