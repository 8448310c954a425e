"""The edited checkpoint: streamed to disk, whole or not at all."""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery.checkpoint import INDEX, SINGLE, Checkpoint, read_json
from sa_lightning.surgery.edit import EditPlan
from sa_lightning.surgery.selection import Progress
from sa_lightning.surgery.shard import write_shard
from sa_lightning.surgery.weights import Weights

__all__ = ["REPORT", "check_output", "write_edit"]

REPORT = "surgery.json"
WEIGHT_SUFFIXES = frozenset(
    (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".gguf", ".npz")
)
LEFT_BEHIND = ("optimizer", "scheduler", "rng_state", "trainer_state", "training_args", "adapter_")
NOT_TRUE_OF_THE_EDIT = ("README.md", REPORT, INDEX, "SHA256SUMS")
LARGEST_SMALL_FILE = 128 * 2**20
TEMPLATES = "additional_chat_templates"


def check_output(output: str | Path, inputs: Iterable[Weights], *, overwrite: bool = False) -> Path:
    """Refuse an output directory that exists or would touch an input. Reads nothing.

    Args:
        output: Where the edited checkpoint is to appear.
        inputs: The checkpoints that are read.
        overwrite: Whether an earlier checkpoint there may be replaced.

    Raises:
        CheckpointError: If the output exists and may not be replaced, or lies in an input.
    """
    path = Path(output).expanduser()
    here = path.resolve()
    read = [d for weights in inputs if isinstance(weights, Checkpoint) for d in weights.directories]
    for directory in read:
        there = directory.resolve()
        if here == there or there in here.parents or here in there.parents:
            what = f"{output} is the same as {directory}, which is read"
            if here != there:
                what = f"{output} and {directory}, which is read, lie one inside the other"
            raise CheckpointError(f"{what}.\nAn edit never touches its inputs. Choose another output directory.")
    if path.is_symlink() or path.exists():
        if not overwrite:
            raise CheckpointError(
                f"{output} exists already.\nNothing is replaced unasked. Choose another output "
                "directory, or say `--overwrite`."
            )
        replaceable = path.is_dir() and not path.is_symlink()
        if not replaceable or not (
            (path / REPORT).exists() or (path / "config.json").exists() or not any(path.iterdir())
        ):
            raise CheckpointError(
                f"{output} exists and is not a checkpoint, so `--overwrite` does not delete it.\n"
                "Choose another output directory, or remove it yourself."
            )
    return path


def write_edit(
    plan: EditPlan,
    output: str | Path,
    *,
    overwrite: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the edited target as a Hugging Face checkpoint with a `surgery.json`.

    Keeps the target's shard layout, configuration, tokenizer and chat template. Streams one
    tensor at a time into a hidden directory beside `output`, which takes its name only when it
    is complete; after a failure it is removed.

    Args:
        plan: The edit, whose target is a checkpoint on disk.
        output: The directory to appear.
        overwrite: Whether an earlier checkpoint there may be replaced.
        command: The command line, for the report.
        progress: Called after every tensor.

    Returns:
        The path of the checkpoint.

    Raises:
        CheckpointError: If the output exists, lies in an input, or cannot be written.
        NothingToDoError: If no weight differs in the end.
    """
    target = plan.target
    if not isinstance(target, Checkpoint):
        raise TypeError("write_edit needs a target on disk; save a model in memory first.")
    path = check_output(output, [target, plan.vector.base, plan.vector.finetuned], overwrite=overwrite)
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        partial.mkdir(parents=True)
        _copy_small_files(target, partial)
        _write_config(plan, partial)
        _write_shards(plan, target, partial, progress)
        plan.check_changed()
        report = json.dumps(plan.report(command), indent=2, ensure_ascii=False)
        (partial / REPORT).write_text(report + "\n", encoding="utf-8")
        _rename(partial, path)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"{output} could not be written: {error.strerror or error}.\n"
            "Nothing was left there. Is the disk full, or the directory not yours to write?"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return path


def _write_shards(plan: EditPlan, target: Checkpoint, directory: Path, progress: Progress | None) -> None:
    total_size = done = 0
    total = sum(torch.Size(target.shape(n)).numel() for names in target.layout.values() for n in names)
    for file, stored in target.layout.items():
        # Wide types first keeps every tensor aligned, as safetensors itself does.
        names = sorted(stored, key=lambda name: -plan.dtype(name).itemsize)
        headers = {name: (plan.dtype(name), target.shape(name)) for name in names}

        def tensors(names: list[str] = names) -> Iterator[tuple[str, Tensor]]:
            nonlocal done
            for name in names:
                yield name, plan.edited(target.aliases.get(name, name))
                done += torch.Size(target.shape(name)).numel()
                if progress:
                    progress("writing", done, total)

        metadata = {"format": "pt", **target.metadata}
        total_size += write_shard(directory / file, headers, tensors(), metadata)
    if list(target.layout) != [SINGLE]:
        weight_map = {name: file for file, names in target.layout.items() for name in names}
        index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _copy_small_files(target: Checkpoint, directory: Path) -> None:
    for position, source in enumerate(target.directories):
        for file in sorted(source.iterdir()):
            if file.name == TEMPLATES and file.is_dir():
                shutil.copytree(file, directory / TEMPLATES, dirs_exist_ok=True)
            elif (
                file.is_file()
                and not file.name.startswith((*LEFT_BEHIND, "."))
                and file.name not in NOT_TRUE_OF_THE_EDIT
                and file.suffix not in WEIGHT_SUFFIXES
                and file.stat().st_size <= LARGEST_SMALL_FILE
                and not (position and file.name == "config.json")
            ):
                shutil.copyfile(file, directory / file.name)


def _write_config(plan: EditPlan, directory: Path) -> None:
    """Let the configuration name the data type that the edit was asked to write."""
    path = directory / "config.json"
    if plan.settings.dtype == "auto" or not path.is_file():
        return
    config: dict[str, Any] = read_json(path)
    for part in (config, config.get("text_config") or {}):
        for key in ("dtype", "torch_dtype"):
            if key in part:
                part[key] = plan.settings.dtype
    if "dtype" not in config and "torch_dtype" not in config:
        config["dtype"] = plan.settings.dtype
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _rename(partial: Path, path: Path) -> None:
    """Give the complete directory its name; an earlier one gives way only now."""
    old = partial.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
