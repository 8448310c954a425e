"""The edited checkpoint: streamed to disk, whole or not at all."""

import json
import os
import shutil
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import xxhash

from sa_lightning.errors import CheckpointError
from sa_lightning.files import Json, sync
from sa_lightning.outputs import RECORD, check_place, digest, locked, note, noted, remove_empty
from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.inside import check_inside
from sa_lightning.surgery.checkpoints.json_files import Config, read_json
from sa_lightning.surgery.checkpoints.partial_output import PartialOutput, restore
from sa_lightning.surgery.checkpoints.shard import write_shard
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import Weights, slice_digest
from sa_lightning.surgery.edit.plan import EditPlan, Statistics
from sa_lightning.surgery.selection.bracket import sample
from sa_lightning.weight_files import INDEX, SINGLE

__all__ = [
    "REPORT",
    "appearing",
    "check_output",
    "check_space",
    "copy_small_files",
    "foreign_in_edit",
    "write_edit",
    "write_report",
]

REPORT = "surgery.json"
WEIGHT_SUFFIXES = frozenset(
    (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".gguf", ".npz")
)
LEFT_BEHIND = ("optimizer", "scheduler", "rng_state", "trainer_state", "training_args", "adapter_")
NOT_TRUE_OF_THE_EDIT = ("README.md", REPORT, INDEX, "SHA256SUMS")
NOTED_BY_NAME = (REPORT, RECORD, "journal.json")  # of an edit, whatever is in them
OF_A_CHECKPOINT = (".safetensors", ".json", ".txt", ".model", ".jinja", ".md")  # endings of what may be replaced
LARGEST_SMALL_FILE = 128 * 2**20
TEMPLATES = "additional_chat_templates"


def check_output(
    output: str | Path, inputs: Iterable[Weights], *, overwrite: bool = False, also: Iterable[str] = ()
) -> Path:
    """Refuse an output directory that exists or would touch an input. Reads nothing.

    Args:
        output: Where the edited checkpoint is to appear.
        inputs: The checkpoints that are read.
        overwrite: Whether an earlier checkpoint there may be replaced.
        also: Further files and directories that are read.

    Raises:
        CheckpointError: If the output exists and may not be replaced, or lies in an input.
    """
    path = Path(output).expanduser()
    with suppress(OSError):
        restore(path)
    here = path.resolve()
    read = [d for weights in inputs if isinstance(weights, Checkpoint) for d in weights.directories]
    for directory in read:
        there = directory.resolve()
        if here == there or there in here.parents or here in there.parents:
            what = f"{output} is the same as {directory}, which is read"
            if here != there:
                what = f"{output} and {directory}, which is read, lie one inside the other"
            raise CheckpointError(f"{what}.\nAn edit never touches its inputs. Choose another output directory.")
    for place in also:
        there = Path(place).expanduser().resolve()
        if here == there or here in there.parents:
            raise CheckpointError(f"{output} is or holds {place}, which is read.\nChoose another output directory.")
    remove_empty(check_place(path, path.parent, [f"{path.name}.replaced-by-sa-edit"]))
    if path.is_symlink() or path.exists():
        lock = path.parent / f".{path.name}.lock"
        if lock.exists():  # of a run that is under way, or was killed as it had finished
            with locked(lock, str(output)):
                pass
        if not overwrite:
            raise CheckpointError(
                f"{output} exists already.\nNothing is replaced unasked. Choose another output "
                "directory, or say `--overwrite`."
            )
        foreign = foreign_in_edit(path)
        if foreign is not None:
            raise CheckpointError(
                f"{output} exists and {foreign}, so `--overwrite` does not delete it.\n"
                "An edit replaces what an edit has written, and nothing else.\n"
                "Choose another output directory, or move away what is yours."
            )
    return path


def foreign_in_edit(path: Path) -> str | None:
    """Say what about a path is not as an edit has written it, if anything is: it would be lost with it."""
    if os.path.islink(path) or not os.path.isdir(path):  # which say no where a name is too long
        return "is no directory"
    names = {entry.name for entry in path.iterdir()}
    if names and REPORT not in names:
        return f"has no {REPORT}, so no edit has written it"
    known = noted(path, "edit")
    for name in sorted(names - set(NOTED_BY_NAME)):
        if known:
            mine = "" in known.get(name, ()) or digest(path / name) in known.get(name, ())
        else:  # of an older version
            mine = name == TEMPLATES or name.endswith(OF_A_CHECKPOINT)
        if not mine:
            return f"holds {name}, which no edit has written" + (" as it is now" if name in known else "")
    return None


def write_edit(
    plan: EditPlan,
    output: str | Path,
    *,
    overwrite: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> Path:
    """Write the edited target as a Hugging Face checkpoint with a `surgery.json`.

    Keeps the target's shard layout, configuration, tokenizer and chat template. Streams some rows at a
    time into a hidden directory beside `output`, which takes its name only when it
    is complete; configuration and index are written last. After a failure it is removed, unless
    shards are finished: those are kept for `resume`.

    Args:
        plan: The edit, whose target is a checkpoint on disk.
        output: The directory to appear.
        overwrite: Whether an earlier checkpoint there may be replaced.
        command: The command line, for the report.
        progress: Told how many bytes have been read and written, and of how many.
        resume: Keep the shards that an interrupted run with the same inputs and settings has finished, once
            their content has been verified.

    Returns:
        The path of the checkpoint.

    Raises:
        CheckpointError: If the output exists, lies in an input, or cannot be written.
        NothingToDoError: If no weight differs in the end.
    """
    target = plan.target
    if not isinstance(target, Checkpoint):
        raise TypeError("write_edit needs a target on disk; save a model in memory first.")
    with appearing(plan, output, {}, overwrite=overwrite, resume=resume) as partial:
        files = _write_shards(plan, target, partial, progress)
        plan.check_changed()
        write_report(partial.path, {**plan.report(command), "files": files})
        copy_small_files(target.directories, partial.path)
        _write_config(plan, target, partial.path)
        _write_index(plan, target, partial.path)
    return partial.output


@contextmanager
def appearing(
    plan: EditPlan, output: str | Path, identity: Json, *, overwrite: bool, resume: bool
) -> Generator[PartialOutput, None, None]:
    """Give a hidden directory to write the result of an edit to, which takes its name when all is there.

    Args:
        plan: The edit; what is read of its inputs meanwhile is hashed on the way, for their fingerprints.
        output: The directory to appear.
        identity: What a partial output must have been begun with, too, to be continued.
        overwrite: Whether an earlier result there may be replaced.
        resume: Whether a partial output is continued.

    Raises:
        CheckpointError: If the output exists, lies in an input, or cannot be written.
    """
    path = check_output(output, plan.inputs.values(), overwrite=overwrite)
    checkpoints = [weights for weights in plan.inputs.values() if isinstance(weights, Checkpoint)]
    partial = None
    try:
        with PartialOutput(path, {**_identity(plan), **identity}, resume=resume, overwrite=overwrite).open() as partial:
            for weights in checkpoints:
                weights.hashes_reads = True
            yield partial
            weighty = {file.name for file in partial.path.iterdir() if file.suffix == ".safetensors"}
            for name in sorted({file.name for file in partial.path.iterdir()} - set(NOTED_BY_NAME)):
                note(partial.path, "edit", name, "" if name in weighty else digest(partial.path / name))
            partial.appear()
    except OSError as error:
        raise CheckpointError(
            f"{output} could not be written: {error.strerror or error}.\n"
            + (
                f"Finished shards are kept in {partial.path}, and `--resume` goes on from there.\n"
                if partial is not None and partial.path.exists()
                else "Nothing was left there. "
            )
            + "Is the disk full, or the directory not yours to write?"
        ) from error
    finally:
        for weights in checkpoints:
            weights.hashes_reads = False


def write_report(directory: Path, report: Json) -> None:
    """Write `surgery.json`."""
    (directory / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _identity(plan: EditPlan) -> Json:
    """What a partial output must have been begun with to be continued: inputs as they lie on disk, and settings."""
    inputs = {
        role: {str(file.resolve()): [file.stat().st_size, file.stat().st_mtime_ns] for file in weights.files}
        for role, weights in plan.inputs.items()
        if isinstance(weights, Checkpoint)
    }
    # Some rows of the result stand for what is no file of weights: a direction, scores of prompts.
    digests: list[bytes] = []
    for piece in sample(plan.names, [plan.target.shape(name) for name in plan.names], pieces=64):
        canonical = piece._replace(name=plan.target.aliases.get(piece.name, piece.name))
        digests.append(slice_digest(plan.rows(canonical, plan.target.rows(canonical))[0]))
    found = xxhash.xxh3_128_hexdigest(b"".join(digests))
    return {
        "inputs": inputs,
        "settings": plan.settings.recorded(),
        "delta": plan.delta.formula,
        "rows of the result": found,
        "selection": [str(plan.chosen.threshold), plan.chosen.k, str(getattr(plan.chosen, "cuts", None))],
        "coefficients": None if plan.steps is None else dict(plan.steps),
    }


def check_space(plan_bytes: int, output: Path) -> None:
    """Refuse to begin what the disk has no room for."""
    place = output.parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < plan_bytes:
        raise CheckpointError(
            f"The edited checkpoint needs {plan_bytes / 1e9:.2f} GB, but {place} has {free / 1e9:.2f} GB free.\n"
            "It is written beside whatever it replaces, which is removed only afterwards.\n"
            "Free some space, or choose an output directory on another disk."
        )


def _write_shards(
    plan: EditPlan, target: Checkpoint, partial: PartialOutput, progress: Progress | None
) -> dict[str, str]:
    """Write the shards that are not finished, and return the digest of each."""
    layout = {file: _written(plan, target, file) for file in target.layout}
    sizes = {file: sum(_size(plan, target, name) for name in names) for file, names in layout.items()}
    finished: Json = dict(partial.entries.get("files", {}))
    known = {file: entry for file in layout if (entry := partial.finished(file)) is not None}
    check_space(sum(size for file, size in sizes.items() if file not in known), partial.output)
    plan.statistics.clear()
    for entry in known.values():
        plan.statistics.update({name: Statistics(*values) for name, values in entry["statistics"].items()})
    done, total = sum(sizes[file] for file in known), sum(sizes.values())
    with ThreadPoolExecutor(1) as disk:
        last: tuple[str, Json, Future[None]] | None = None
        for file, names in layout.items():
            if file in known:
                continue
            headers = {name: (plan.dtype(name), target.shape(name)) for name in names}

            def report(_: str, part: int, whole: int, file: str = file, done: int = done) -> None:
                if progress:
                    progress("writing", done + int(part / whole * sizes[file]), total)

            digest = write_shard(
                partial.path / file,
                headers,
                {"format": "pt", **target.metadata},
                lambda write, names=names, report=report: plan.edited(names, target, write, progress=report),
            )
            counted = {name: plan.statistics[name] for name in names if name in plan.statistics}
            done += sizes[file]
            # One shard goes to the disk while the next is computed; only what is there is finished.
            _finish(last, finished, partial)
            last = file, {"xxh3": digest, "statistics": counted}, disk.submit(sync, partial.path / file)
        _finish(last, finished, partial)
    return {file: finished[file]["xxh3"] for file in layout}


def _finish(last: tuple[str, Json, Future[None]] | None, finished: Json, partial: PartialOutput) -> None:
    if last is not None:
        file, entry, on_disk = last
        on_disk.result()
        finished[file] = entry
        partial.note("files", finished)


def _written(plan: EditPlan, target: Checkpoint, file: str) -> list[str]:
    """The names of a shard in the order in which they are written: wide types first, as safetensors does."""
    return sorted(target.layout[file], key=lambda name: -plan.dtype(name).itemsize)


def _size(plan: EditPlan, target: Checkpoint, name: str) -> int:
    return torch.Size(target.shape(name)).numel() * plan.dtype(name).itemsize


def _write_index(plan: EditPlan, target: Checkpoint, directory: Path) -> None:
    if list(target.layout) == [SINGLE]:
        return
    weight_map = {name: file for file, names in target.layout.items() for name in names}
    index = {
        "metadata": {"total_size": sum(_size(plan, target, name) for name in weight_map)},
        "weight_map": dict(sorted(weight_map.items())),
    }
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def copy_small_files(sources: Sequence[Path], directory: Path, *, config: bool = True) -> None:
    """Copy tokenizer, chat template and the like, the later sources over the earlier ones; `config` of the first."""
    for position, source in enumerate(sources):
        for file in sorted(source.iterdir()):
            if file.name == TEMPLATES and file.is_dir():
                for one in [file, *file.rglob("*")]:
                    check_inside(source, one)
                shutil.copytree(file, directory / TEMPLATES, dirs_exist_ok=True)
            elif (
                file.is_file()
                and not file.name.startswith((*LEFT_BEHIND, "."))
                and file.name not in NOT_TRUE_OF_THE_EDIT
                and file.suffix not in WEIGHT_SUFFIXES
                and file.stat().st_size <= LARGEST_SMALL_FILE
                and not ((position or not config) and file.name == "config.json")
            ):
                check_inside(source, file)
                shutil.copyfile(file, directory / file.name)


def _write_config(plan: EditPlan, target: Checkpoint, directory: Path) -> None:
    """Let the configuration name what was written: the data type that was asked for, and whether the ends are tied."""
    path = directory / "config.json"
    if not path.is_file():
        return
    config: Json = read_json(path, Config)
    before = json.dumps(config)
    for part, now in zip(_parts(config), _parts(target.config), strict=True):
        if "tie_word_embeddings" in now:
            part["tie_word_embeddings"] = now["tie_word_embeddings"]
        for key in ("dtype", "torch_dtype"):
            if key in part and plan.settings.dtype != "auto":
                part[key] = plan.settings.dtype
    if plan.settings.dtype != "auto" and "dtype" not in config and "torch_dtype" not in config:
        config["dtype"] = plan.settings.dtype
    if json.dumps(config) != before:
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _parts(config: Json) -> tuple[Json, Json]:
    return config, config.get("text_config") or {}
