"""The adapter on disk: what PEFT reads, and `surgery.json`; whole or not at all."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

from sa_lightning.errors import NothingToDoError, SettingError
from sa_lightning.files import Json, sync
from sa_lightning.foreign.showing import code
from sa_lightning.source import ADAPTER_CONFIG
from sa_lightning.surgery.adapters.change import Change
from sa_lightning.surgery.adapters.collected import Collected, collect
from sa_lightning.surgery.adapters.naming import adapter_settings, adapter_tensors
from sa_lightning.surgery.adapters.place import Place
from sa_lightning.surgery.adapters.read_again import read_again
from sa_lightning.surgery.checkpoints.checkpoint import ADAPTER_WEIGHTS, Checkpoint
from sa_lightning.surgery.checkpoints.shard import shard_digest
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.edit.on_disk import appearing, check_space, copy_small_files, write_report
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.edit.settings import EditSettings

__all__ = ["check_rank", "write_adapter"]

EXACT = 1e-6  # of the change's length, up to which an adapter is called exact


def check_rank(settings: EditSettings, rank: int | None) -> None:
    """Refuse what no adapter can have, before any weight is read.

    Raises:
        SettingError: If a data type was asked for, or a rank of 0.
    """
    if settings.dtype != "auto":
        raise SettingError(
            f"`dtype` is {settings.dtype}, but an adapter leaves its base in the base's own type.\n"
            "Leave `--dtype` out, or write a checkpoint: `--format checkpoint`."
        )
    if rank is not None and rank < 1:
        raise SettingError(
            f"`rank` is {rank}, and a matrix of rank 0 is zero.\nThe adapter would change nothing.\n"
            "Write the most rank that a matrix may have, such as `--rank 16`."
        )


def write_adapter(
    plan: EditPlan,
    output: str | Path,
    places: Mapping[str, Place],
    *,
    rank: int | None = None,
    overwrite: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    check: Callable[[Path], None] | None = None,
) -> Json:
    """Write the edit as a PEFT adapter over its target; where that is an adapter, over the base of that.

    Each changed matrix has two factors, B A of LoRA with a scale of 1, of its own rank; norms are saved whole, and so
    are embeddings that are tied to the head, at both ends; biases as PEFT saves them. All is exact but what a rank cuts
    off. Memory: the factors, and the largest matrix in float32 a few times.

    Args:
        plan: The edit, whose target is a checkpoint on disk.
        output: The directory to appear.
        places: Where the tensors of the checkpoint are in the loaded model.
        rank: The most columns of a factor. Not set, an edit is refused whose matrices are not known to be of low rank.
        overwrite: Whether an earlier result there may be replaced.
        command: The command line, for the report.
        progress: Told how many bytes have been formed, and of how many.
        resume: Continue a partial output; of an adapter nothing is finished before all is, so it begins again.
        check: Looks at the directory before it appears, and raises if it is not to be.

    Returns:
        What `surgery.json` says under `adapter`: base, ranks, parameters, and the error: ‖Δ − Δ_R‖ / ‖Δ‖ in all and of
        the worst module, of Δ = edited − base.

    Raises:
        SettingError: If a rank is needed, or a data type was asked for.
        CheckpointError: If something changes that PEFT has no adapter for, or the output cannot be written.
        NothingToDoError: If nothing differs in the end.
    """
    if not isinstance(plan.target, Checkpoint):
        raise TypeError("write_adapter needs a target on disk; save a model in memory first.")
    check_rank(plan.settings, rank)
    change = Change(plan, plan.target)
    with appearing(plan, output, {"format": "adapter", "rank": rank}, overwrite=overwrite, resume=resume) as partial:
        plan.statistics.clear()
        found = collect(change, places, rank, progress)
        plan.check_changed()
        others = len(found.whole) + len(found.vectors)
        if not found.matrices and not others:
            raise NothingToDoError(
                f"The edit takes {plan.target.source} back to {change.base.source}, which an adapter is over.\n"
                "The adapter would change nothing.\nUse that checkpoint as it is."
            )
        if not found.matrices:
            raise NothingToDoError(
                f"The edit changes no matrix of {plan.target.source}, but {others} norms or biases.\n"
                "An adapter of LoRA needs a matrix.\nWrite a checkpoint: `--format checkpoint`."
            )
        tensors, settings = adapter_tensors(found), adapter_settings(found, change)
        size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
        check_space(size, partial.output)
        save_file(tensors, partial.path / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        (partial.path / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        said = _said(found, change, sum(tensor.numel() for tensor in tensors.values()), size)
        said["rank"] = rank
        said["rows_read_again"] = read_again(partial.path, change, found)
        if check is not None:
            check(partial.path)
        (partial.path / "README.md").write_text(_card(said, plan), encoding="utf-8")
        copy_small_files(plan.target.directories[len(change.base.directories) :], partial.path, config=False)
        files = {ADAPTER_WEIGHTS: shard_digest(partial.path / ADAPTER_WEIGHTS)}
        write_report(partial.path, {**plan.report(command), "adapter": said, "files": files})
        sync(partial.path / ADAPTER_WEIGHTS)
    return said


def _said(found: Collected, change: Change, parameters: int, size: int) -> Json:
    worst = max(found.matrices, key=lambda name: found.matrices[name].error)
    error = math.sqrt(found.lost / found.energy) if found.energy else 0.0
    step = math.fsum(one.step_energy for one in change.plan.statistics.values())
    ranks = Counter(one.rank for one in found.matrices.values())
    return {
        "base": change.base.source,
        "exact": error <= EXACT,
        "relative_error": _rounded(error),
        "relative_error_of_step": _rounded(math.sqrt(found.lost / step)) if step else None,
        "worst": {"name": worst, "relative_error": _rounded(found.matrices[worst].error)},
        "matrices": len(found.matrices),
        "matrices_by_rank": {str(rank): count for rank, count in sorted(ranks.items())},
        "saved_whole": sorted(found.whole),
        "biases": len(found.vectors),
        "parameters": parameters,
        "megabytes": round(size / 1e6, 6),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _card(said: Json, plan: EditPlan) -> str:
    error = "exact" if said["exact"] else f"truncated: {100 * said['relative_error']:.3g} % of the change is lost"
    return (
        f"---\nlibrary_name: peft\nbase_model: {json.dumps(said['base'])}\n---\n\n"
        f"An edit of weights by `sa edit`, as an adapter of LoRA ({error}).\n\n"
        f"{plan.settings.operator} {code(plan.delta.formula)}; `surgery.json` has all settings and numbers.\n"
    )
