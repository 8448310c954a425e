"""The edit: step away from the harm vector where it was selected, and nowhere else."""

import math
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import CheckpointError, NothingToDoError, SettingError
from sa_lightning.surgery.scope import Scope, layer_of
from sa_lightning.surgery.selection import (
    Granularity,
    Method,
    Progress,
    Selection,
    Ties,
    check_density,
    select,
)
from sa_lightning.surgery.task_vector import TaskVector, check_finite, check_match
from sa_lightning.surgery.weights import Weights

__all__ = ["EditPlan", "EditSettings", "plan_edit"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class EditSettings:
    """How the harm vector is trimmed, and how far the edit steps away from it.

    Args:
        density: Fraction of entries of the harm vector to keep, in (0, 1]; the paper's "top 10 %"
            is 0.1.
        scale: How many times the trimmed harm vector is subtracted (the paper's lambda, there
            between 2 and 3).
        select: Keep the entries of largest magnitude, or as many at random (the control that
            says whether magnitude matters).
        granularity: Cut once over the whole scope (as the authors' code does), or in every layer
            or tensor by itself.
        ties: Entries exactly on the cut: split them by a seeded hash so that exactly the density
            remains, keep them all (the authors' code), or drop them all. In half precision they
            can be a quarter of all entries.
        scope: Which parameters may change.
        seed: Seed of the random selection and of the choice among ties (and, in `sa edit`, of `world:` names).
        dtype: Data type of the edited weights; auto leaves each tensor in the target's own.
    """

    density: float = 0.1
    scale: float = 2.0
    select: Method = "magnitude"
    granularity: Granularity = "global"
    ties: Ties = "split"
    scope: Scope = field(default_factory=Scope)
    seed: int = 0
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_density(self.density)
        if not math.isfinite(self.scale) or self.scale < 0:
            raise SettingError(
                "`scale` is how many times the harm vector is subtracted and must not be "
                f"negative, but is {self.scale:g}. A negative one would add the harm; the paper "
                "uses 2 to 3."
            )


class TensorStatistics(NamedTuple):
    """What the edit did to one parameter; norms are squared, in float64."""

    n: int
    k: int
    changed: int
    kept_energy: float
    energy: float
    weight_energy: float


class EditPlan:
    """An edit that is decided but not yet made: target − scale · mask ⊙ τ.

    With `rounds_first`, the target is cast to the new data type before the step, as for a model that was
    loaded in that type. `names` are the parameters in scope. `edited` forms one of them; `statistics` fills up on the
    way, and `report` sums it up. Made by `plan_edit`.
    """

    def __init__(self, vector: TaskVector, target: Weights, settings: EditSettings, selection: Selection) -> None:
        self.vector = vector
        self.target = target
        self.settings = settings
        self.selection = selection
        self.rounds_first: bool = False
        self.statistics: dict[str, TensorStatistics] = {}
        self._in_scope = frozenset(vector.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that may change, each once."""
        return self.vector.names

    def dtype(self, name: str) -> torch.dtype:
        """The data type that the edited tensor will have."""
        own = self.target.dtype(name)
        return own if not own.is_floating_point else DTYPES.get(self.settings.dtype, own)

    def edited(self, name: str) -> Tensor:
        """One edited tensor of the target. Outside the scope it is the target's own."""
        weight, dtype = self.target.read(name), self.dtype(name)
        return self.edit(name, weight.to(dtype) if self.rounds_first else weight, dtype)

    def edit(
        self, name: str, weight: Float[Tensor, "*shape"], dtype: torch.dtype | None = None
    ) -> Float[Tensor, "*shape"]:
        """Form weight − scale · mask ⊙ τ in float32, then cast to `dtype` (the weight's own).

        Entries that are not selected are bit-identical to `weight`, unless the type changes.

        Safety Arithmetic, https://arxiv.org/abs/2406.11801, Eq. 4. The authors' code for edited
        models trims inside the edit area but subtracts the untrimmed vector outside it; here
        nothing outside the scope changes, as the paper says.

        Raises:
            CheckpointError: If an input is not finite, or the result does not fit the type.
        """
        dtype = dtype or weight.dtype
        name = self.target.aliases.get(name, name)
        if name not in self._in_scope:
            return weight.to(dtype)
        delta = self.vector.delta(name)
        mask = self.selection.mask(name, delta)
        # Two roundings, never a fused multiply-add, so that every device gives the same bits.
        moved = (weight.float() - delta * self.settings.scale).to(dtype)
        unmoved = weight.to(dtype)
        edited = torch.where(mask, moved, unmoved)
        if not bool(torch.isfinite(edited).all()):
            check_finite(name, weight, self.target.source)
            raise CheckpointError(
                f"The edit takes `{name}` beyond what {dtype} can hold.\n"
                "Choose a smaller `scale`, or `dtype: bfloat16`, which has a wider range."
            )
        self.statistics[name] = TensorStatistics(
            n=delta.numel(),
            k=int(mask.sum()),
            changed=int((edited != unmoved).sum()),
            kept_energy=_energy(torch.where(mask, delta, 0.0)),
            energy=_energy(delta),
            weight_energy=_energy(weight),
        )
        return edited

    def check_changed(self) -> None:
        """Raise if every parameter has been formed and none differs from the target."""
        if not any(self.statistics[name].changed for name in self.names):
            raise NothingToDoError(
                f"The edit is refused, for nothing changed: each selected step rounds to zero in the weights of "
                f"{self.target.source}.\nChoose a larger `scale` or `density`, or a wider `dtype`."
            )

    def report(self, command: str | None = None) -> dict[str, Any]:
        """What was done, for `surgery.json`, once every parameter has been formed."""
        scale = self.settings.scale
        groups: dict[str, list[TensorStatistics]] = {}
        for name in sorted(self.names, key=lambda name: (layer_of(name) is None, layer_of(name), name)):
            layer = layer_of(name)
            group = "other" if layer is None else str(layer)
            groups.setdefault(group, []).append(self.statistics[name])
        everything = [entry for entries in groups.values() for entry in entries]
        kept = math.fsum(s.kept_energy for s in everything)
        energy = math.fsum(s.energy for s in everything)
        inputs = {"base": self.vector.base, "harm": self.vector.finetuned, "target": self.target}
        return {
            "inputs": {
                role: {"source": weights.source, "fingerprint": weights.fingerprint()}
                for role, weights in inputs.items()
            },
            "settings": asdict(self.settings),
            "threshold": self.selection.threshold,
            "n": self.selection.n,
            "k": self.selection.k,
            "density_achieved": self.selection.density_achieved,
            "per_layer": {
                group: {
                    "n": sum(s.n for s in entries),
                    "k": sum(s.k for s in entries),
                    "relative_norm": _relative_norm(entries, scale),
                }
                for group, entries in groups.items()
            },
            "retained_energy": _rounded(kept / energy) if energy else None,
            "relative_norm": _relative_norm(everything, scale),
            "changed": sum(s.changed for s in everything),
            "command": command,
            "versions": versions(),
        }


def plan_edit(
    base: Weights,
    harm: Weights,
    target: Weights | None,
    settings: EditSettings,
    progress: Progress | None = None,
) -> EditPlan:
    """Check that three checkpoints belong together, and find what the edit selects.

    Args:
        base: The aligned model before harmful fine-tuning.
        harm: Its harmful fine-tune.
        target: The model to repair. By default the base.
        settings: How to trim and how far to step.
        progress: Called after every tensor of every pass.

    Raises:
        CheckpointMismatchError: If names or shapes differ in scope; before any tensor is read.
        CheckpointError: If a value is not finite.
        NothingToDoError: If the edit would change nothing.
    """
    target = base if target is None else target
    if settings.scale == 0:
        raise NothingToDoError(
            "The edit is refused, for nothing changed: `scale` is 0, so the harm vector is subtracted "
            "zero times.\n"
            "The paper uses 2 to 3."
        )
    vector = TaskVector(base, harm, settings.scope)
    check_match(base, target, settings.scope)
    if not any(bool(vector.delta(name).any()) for name in vector.names):
        raise NothingToDoError(
            f"The edit is refused, for nothing changed: {harm.source} equals {base.source} in all {len(vector.names)} "
            "parameters in scope, so the harm vector is zero.\n"
            "Was the harm model saved, and is it not the base itself? Or widen `scope`."
        )
    selection = select(
        vector,
        density=settings.density,
        method=settings.select,
        granularity=settings.granularity,
        ties=settings.ties,
        seed=settings.seed,
        progress=progress,
    )
    return EditPlan(vector, target, settings, selection)


def versions() -> dict[str, str]:
    """Versions of what an edit's bits depend on."""
    found = {"python": platform.python_version()}
    for package in ("sa_lightning", "torch", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _energy(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


def _relative_norm(entries: list[TensorStatistics], scale: float) -> float | None:
    weight = math.fsum(s.weight_energy for s in entries)
    kept = math.fsum(s.kept_energy for s in entries)
    return _rounded(scale * math.sqrt(kept / weight)) if weight else None


def _rounded(value: float) -> float:
    """Nine digits: the rest depends on the number of threads."""
    return float(f"{value:.9g}")
