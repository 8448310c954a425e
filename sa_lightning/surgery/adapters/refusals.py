"""What no adapter can say, told with the way round."""

import json
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointError, SettingError
from sa_lightning.surgery.adapters.change import Change
from sa_lightning.surgery.adapters.low_rank import spectrum
from sa_lightning.surgery.adapters.place import Place

__all__ = ["refuse_placeless", "refuse_without_rank"]

SAMPLED = 6  # matrices whose singular values are looked at where no rank is given
RANKS = (1, 4, 8, 16, 32, 64, 128, 256)  # that are told of then


def refuse_without_rank(change: Change, places: Mapping[str, Place], names: list[str]) -> None:
    """Refuse an edit of no known rank, and say what each rank would hold of some matrices of it."""
    step = max(1, len(names) // SAMPLED)
    order = [*names[step // 2 :: step], *names]  # spread over the model; the others only where these do not change
    found = list[Tensor]()
    for name in dict.fromkeys(order):
        delta = torch.cat([part for _, part in change.plan.edited([name], change, change.of)])
        if bool(delta.any()):
            found.append(spectrum(delta))
        if len(found) == SAMPLED:
            break
    if not found:
        return
    change.plan.statistics.clear()
    energy = math.fsum(float(one.sum()) for one in found)
    told = list[str]()
    for rank in (rank for rank in RANKS if rank < max(len(one) for one in found)):
        error = math.sqrt(math.fsum(float(one[rank:].sum()) for one in found) / energy)
        shapes = [change.shape(name) for name in places if name in change.names and len(change.shape(name)) > 1]
        entries = sum(min(rank, *shape) * sum(shape) for shape in shapes if len(shape) == 2)
        told.append(f"  --rank {rank}: an error of about {100 * error:.2g} %, at most {4 * entries / 1e6:,.1f} MB")
        if error < 1e-4:
            break
    raise SettingError(
        f"The edit of {change.target.source} is not known to be of low rank, so an adapter holds a part of it only.\n"
        f"In {len(found)} of its matrices, the part that is lost of the change's length is:\n"
        + "\n".join(told)
        + "\nChoose one, or write the whole edit as a checkpoint: `--format checkpoint`."
    )


def refuse_placeless(change: Change, places: Mapping[str, Place], names: list[str]) -> None:
    """Refuse tensors that change and have no place in an adapter.

    Raises:
        CheckpointError: With their number, and how to leave them out.
    """
    fused = [name for name in names if places[name].kind == "fused"]
    what = "which is loaded as a part of one tensor for all experts" if fused else "which is in no module of its own"
    leaves = dict.fromkeys(".".join(part for part in name.split(".")[-2:] if not part.isdigit()) for name in names)
    patterns = ["*.experts.*"] if all(".experts." in name for name in names) else [f"*{leaf}" for leaf in leaves]
    raise CheckpointError(
        f"The edit changes {len(names)} tensors of {change.target.source} that PEFT has no adapter for, such as "
        f"`{(fused or names)[0]}`, {what}.\nThe adapter would be another model than the edit.\n"
        f"Leave them out (`--scope.exclude '{json.dumps(patterns)}'`), or write a checkpoint: `--format checkpoint`."
    )
