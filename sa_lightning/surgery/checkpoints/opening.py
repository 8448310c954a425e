"""From a source, as a person names it, to an opened checkpoint."""

import os
import re
from pathlib import Path

from sa_lightning.errors import CheckpointError
from sa_lightning.source import ADAPTER_CONFIG, is_quantised, other_base, read
from sa_lightning.surgery.checkpoints.adapted import AdaptedCheckpoint, Added
from sa_lightning.surgery.checkpoints.adapter import read_settings
from sa_lightning.surgery.checkpoints.checkpoint import ADAPTER_WEIGHTS, Checkpoint
from sa_lightning.surgery.checkpoints.json_files import Config, read_json
from sa_lightning.surgery.checkpoints.shard import Shard
from sa_lightning.surgery.checkpoints.weights import packed_edit
from sa_lightning.weight_files import DEQUANTIZED, INDEX, SINGLE, is_weight, stored_files

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
        source: A local directory with `model.safetensors` or shards and their index, a PEFT adapter of the LoRA family,
            a repository on the Hugging Face Hub, or a sum: `BASE + ADAPTER*0.7 + ADAPTER`.
        revision: Branch, tag or commit of a repository on the Hub; of a sum, of its base.
        adapter_base: The checkpoint that adapters change, if not the one that is named.
        fetch: Whether a repository that is not in the cache may be downloaded.
        over: Adapters that this one is the base of.

    Raises:
        SettingError: If a sum is none.
        CheckpointError: If there is nothing at `source`, if it holds no safetensors (no
            pickle is ever read), if the weights are quantised, or if a file is cut off,
            or missing, or contradicts the index.
    """
    base, adapters = read(str(source))
    if not adapters:
        path = _find_directory(str(source), revision, fetch)
        if not _holds_adapter(str(source), path):
            return _open_directory(str(source), path)
        base, adapters = None, ((str(path), 1.0),)  # of the Hub
    added = [_added(name, weight) for name, weight in adapters]
    for one in added:
        if one.path.resolve() in over or len(over) == DEEPEST:
            raise CheckpointError(
                f"{source} is an adapter whose base is an adapter, and so on, {len(over)} deep or without an end.\n"
                "An adapter is a change of a checkpoint.\nName that as `base_model_name_or_path`."
            )
    given = adapter_base or base
    named = str(given) if given else _named_base(added[0])
    if given is None:
        revision = added[0].settings.get("revision")
    over = (*over, *(one.path.resolve() for one in added))
    opened = open_checkpoint(named, revision=revision, fetch=fetch, over=over)
    remarks = [
        remark
        for one in (added if given else added[1:])
        if (remark := other_base(one.source, one.settings.get("base_model_name_or_path"), named))
    ]
    return AdaptedCheckpoint(str(source), opened, added, remarks)


def _holds_adapter(source: str, path: Path) -> bool:
    """Whether an adapter lies in a directory; refused if a checkpoint does, too."""
    there = [name for name in (ADAPTER_CONFIG, SINGLE, INDEX) if (path / name).is_file()]
    if len(there) > 1 and ADAPTER_CONFIG in there:
        raise CheckpointError(
            f"{source} holds {' and '.join(there)}, so it is two things at once.\n"
            "Nothing says which one is meant.\nMove one of the two into a directory of its own."
        )
    return ADAPTER_CONFIG in there


def _added(name: str, weight: float) -> Added:
    path = Path(name).expanduser()
    _holds_adapter(name, path)
    return Added(name, path, weight, read_settings(name, path))


def _named_base(adapter: Added) -> str:
    """The base that an adapter names, perhaps from its own directory."""
    named = adapter.settings.get("base_model_name_or_path")
    if not named:
        raise CheckpointError(
            f"{adapter.source} is an adapter that does not name its base checkpoint.\n"
            "It is added to the weights of its base.\n"
            f"Write it in front: `BASE + {adapter.source}`."
        )
    beside = adapter.path / named
    named = str(beside) if not is_directory(named) and is_directory(beside) else named
    if is_quantised(named):
        raise CheckpointError(
            f"The adapter {adapter.source} was trained on {named}, whose weights are rounded to few bits.\n"
            "It is merged into whole weights, not into packed ones.\n"
            f"Name the checkpoint that {named} was made from: `CHECKPOINT + {adapter.source}`."
        )
    return named


def _open_directory(source: str, path: Path) -> Checkpoint:
    config = read_json(path / "config.json", Config) if (path / "config.json").is_file() else {}
    if config.get("quantization_config"):
        kind = config["quantization_config"].get("quant_method")
        copy = f'Or edit a dequantised copy: in Python `load_model("{source}", quantization="dequantize")`, saved by '
        raise CheckpointError(
            packed_edit(f"{source} is quantised ({kind})")
            + (f"\n{copy}`save_pretrained`." if kind in DEQUANTIZED else "")
        )
    files = stored_files(path)
    for file, (tensors, _) in files.items():
        for name, tensor in tensors.items():
            if is_weight(name, tensor) and not tensor.dtype.is_floating_point:
                raise CheckpointError(
                    packed_edit(f"{source} stores `{name}` in {file} as {tensor.dtype}: it is packed")
                )
    return Checkpoint(source, path, {f: Shard(path / f, header) for f, header in files.items()}, config)


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
