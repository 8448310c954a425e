"""The edit: what happens to the selected entries of the target, and nowhere else."""

import dataclasses
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import NothingToDoError, StepTooLargeError
from sa_lightning.files import Json
from sa_lightning.resources import installed
from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.slices import INTEGERS, Slice, blend
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta, check_finite
from sa_lightning.surgery.deltas.stand_in import StandIn
from sa_lightning.surgery.edit.settings import DTYPES, EditSettings
from sa_lightning.surgery.operators.operator import Move, Operator
from sa_lightning.surgery.scope import group_of, layer_of
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["EditPlan", "Statistics"]

T = TypeVar("T")

BITS_DEPEND_ON = ("sa_lightning", "torch", "numpy", "safetensors")  # besides Python


class Statistics(NamedTuple):
    """What the edit did to some entries; energies are sums of squares, of float32 values.

    Attributes:
        n: Entries.
        k: Those that were selected.
        changed: Those that differ in the end.
        step_energy: Of the steps that were taken.
        kept_energy: Of the selected entries of the delta.
        energy: Of the delta.
        weight_energy: Of the target.
    """

    n: int = 0
    k: int = 0
    changed: int = 0
    step_energy: float = 0.0
    kept_energy: float = 0.0
    energy: float = 0.0
    weight_energy: float = 0.0

    def plus(self, other: "Statistics") -> "Statistics":
        """Those of both together."""
        sums: Any = (a + b for a, b in zip(self, other, strict=True))
        return Statistics(*sums)


class EditPlan:
    """An edit that is decided but not yet made: target − step · mask ⊙ δ, say.

    With `rounds_first`, the target is cast to the new data type before the step, as for a model that was
    loaded in that type. `names` are the parameters in scope. `rows` forms some rows of one of them; `statistics`
    fills up in `edited`, and `report` sums it up. Made by `plan_edit` or `plan_surgery`.

    Args:
        delta: What is stepped along.
        base: The base, which `restore` takes values from.
        target: What is edited.
        settings: How; resolved, so that nothing is left unset.
        chosen: Which entries.
        steps: For `project`: the coefficient of each tensor.
        lineage: Numbers that say how the checkpoints are related, for the report.
        warnings: What looks wrong about them, for people.
    """

    def __init__(
        self,
        delta: Delta,
        base: Weights | None,
        target: Weights,
        settings: EditSettings,
        chosen: Chosen,
        steps: Mapping[str, float] | None = None,
        lineage: Mapping[str, Any] | None = None,
        warnings: Iterable[str] = (),
    ) -> None:
        self.delta = delta
        self.base = base
        self.target = target
        self.settings = settings
        self.operator: Operator = settings.operation
        self.chosen = chosen
        self.steps = steps
        self.lineage = dict(lineage or {})
        self.warnings: list[str] = list(warnings)
        self.rounds_first: bool = False
        self.search: Json | None = None  # how `layer_scales` were found
        self.statistics: dict[str, Statistics] = {}
        self.inputs: dict[str, Weights] = {**delta.inputs, "target": target}
        if base is not None:
            self.inputs = {"base": base, **self.inputs}
        self._in_scope = frozenset(delta.names)

    def scaled(self, layer_scales: Mapping[str, float]) -> "EditPlan":
        """The same edit with these factors of `scale` by layer, and no statistics yet."""
        settings = dataclasses.replace(self.settings, layer_scales=dict(layer_scales))
        found = EditPlan(
            self.delta, self.base, self.target, settings, self.chosen, self.steps, self.lineage, self.warnings
        )
        found.rounds_first = self.rounds_first
        return found

    @property
    def idle(self) -> bool:
        """Whether no step is taken, as a control: `scale` is 0, or that of every layer."""
        return self.operator.steps and not any(self.settings.scale_in(group_of(name, "layer")) for name in self.names)

    @property
    def control(self) -> str | None:
        """What makes this a control rather than a method, in words; None if it is none."""
        seed = f"(seed {self.settings.seed})"
        found = [
            "nothing is edited: scale 0" if self.idle else "",
            f"({self.delta.formula}) is stepped along" if isinstance(self.delta, StandIn) else "",
            f"outside the edit area, blocks {sorted(self.delta.scope.blocks or ())}, the whole delta is stepped along, "
            "as in the authors' code, by mistake"
            if self.settings.scope.outside == "whole"
            else "",
            f"{self.settings.selection.control} {seed}" if self.settings.selection.control else "",
            {
                "size": f"as many entries as would be selected are drawn at random {seed}",
                "norm": f"as many entries as would be selected are drawn at random {seed}, for a step as long",
            }.get(str(self.settings.control), ""),
        ]
        return "; ".join(filter(None, found)) or None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that may change, each once."""
        return self.delta.names

    def dtype(self, name: str) -> torch.dtype:
        """The data type that the edited tensor will have."""
        own = self.target.dtype(name)
        return own if not own.is_floating_point else DTYPES.get(self.settings.dtype, own)

    def edited(
        self,
        names: Iterable[str],
        weights: Weights,
        then: Callable[[Slice, Tensor], T],
        stage: str = "editing",
        progress: Progress | None = None,
    ) -> Iterator[tuple[Slice, T]]:
        """Form the edited slices of some parameters, in order, and count what was done.

        Args:
            names: The parameters, on disk also under the further names of tied ones, which are not counted again.
            weights: Where the unedited values are read: the target, or a model that holds the same.
            then: What is done with the rows of a slice, in the thread that has formed them.
            stage: What is being done, for the progress.
            progress: Told how far it has come.
        """
        hashing = [w for w in self.inputs.values() if isinstance(w, Checkpoint) and w.hashes_reads]

        def one(piece: Slice) -> tuple[T, Statistics | None, list[Any]]:
            canonical = piece._replace(name=self.target.aliases.get(piece.name, piece.name))
            dtype = self.dtype(piece.name) if weights is self.target else weights.dtype(canonical.name)
            rows = weights.rows(canonical)
            edited, statistics = self.rows(canonical, rows.to(dtype) if self.rounds_first else rows, dtype)
            return then(piece, edited), statistics, [weights.hashed() for weights in hashing]

        size = sum(w.dtype(self.names[0]).itemsize for w in self.inputs.values()) + self.dtype(self.names[0]).itemsize
        results = over(one, names, self.target.shape, stage, progress, size)
        for piece, (result, statistics, hashed) in results:
            for checkpoint, found in zip(hashing, hashed, strict=True):
                checkpoint.learn(found)
            if statistics is not None and piece.name in self._in_scope:
                self.statistics[piece.name] = self.statistics.get(piece.name, Statistics()).plus(statistics)
            yield piece, result

    def rows(
        self, piece: Slice, weight: Float[Tensor, "rows columns"], dtype: torch.dtype | None = None
    ) -> tuple[Float[Tensor, "rows columns"], Statistics | None]:
        """Form some edited rows in float32, cast to the plan's data type, and say what was done.

        Entries that are not selected are bit-identical to `weight`, unless the type changes.

        Safety Arithmetic, https://arxiv.org/abs/2406.11801, Eq. 4.

        Raises:
            CheckpointError: If an input is not finite, or the result does not fit the type.
        """
        dtype = dtype or self.dtype(piece.name)
        unmoved = weight.to(dtype)
        if dtype != weight.dtype and not _surely_finite(weight.float(), dtype):
            check_finite(piece.name, weight.float(), self.target.source)
            raise StepTooLargeError(
                f"`{piece.name}` of {self.target.source} has values that {dtype} cannot hold.\n"
                "They would become infinite. Choose `dtype: bfloat16`, which has a wider range, or `auto`."
            )
        if piece.name not in self._in_scope:
            return unmoved, None
        delta = self.delta.rows(piece)
        keep = self.chosen.keep(piece, delta)
        wide = weight.float()
        own = Statistics(n=piece.count, energy=_energy(delta), weight_energy=_energy(wide))
        k = int(np.count_nonzero(keep.numpy()))
        if not k:
            return unmoved, own
        moved, steps = self._moved(piece, wide, delta)
        edited = blend(keep, moved.to(dtype), unmoved)
        if not _surely_finite(moved, dtype) and not bool(torch.isfinite(edited).all()):
            check_finite(piece.name, wide, self.target.source)
            raise StepTooLargeError(
                f"The edit takes `{piece.name}` beyond what {dtype} can hold.\n"
                "Choose a smaller `scale`, or `dtype: bfloat16`, which has a wider range."
            )
        kept = _energy(blend(keep, delta))
        return edited, own._replace(
            k=k,
            changed=int(np.count_nonzero(_bits(edited) != _bits(unmoved))),
            kept_energy=kept,
            step_energy=steps * steps * kept if not isinstance(steps, Tensor) else _energy(blend(keep, steps)),
        )

    def _moved(self, piece: Slice, weight: Tensor, delta: Tensor) -> tuple[Tensor, float | Tensor]:
        """Where the weights would go, were all entries selected, and the steps: a factor of δ, or a tensor."""
        step = self.step(piece.name)
        if self.operator.steps and not step:
            return weight, 0.0  # to the bit: of -0.0 a difference would leave 0.0
        return self.operator.move(Move(weight, delta, step, lambda: self._base_rows(piece)))

    def step(self, name: str) -> float:
        """How many times the delta a parameter moves, where its operator steps along one, and 0 elsewhere."""
        step = self.settings.scale_in(group_of(name, "layer")) if self.operator.steps else 0.0
        # Coefficients were found on the selected entries as they are.
        return step * (self.chosen.factor if self.steps is None or not step else self.steps[name])

    def _base_rows(self, piece: Slice) -> Tensor:
        assert self.base is not None
        value = self.base.rows(piece).float()
        check_finite(piece.name, value, self.base.source)
        return value

    def check_changed(self) -> None:
        """Raise if every parameter has been formed and none differs from the target, unless that was asked for."""
        if not self.idle and not any(statistics.changed for statistics in self.statistics.values()):
            raise NothingToDoError(
                f"The edit is refused, for nothing changed: each selected step rounds to zero in the weights of "
                f"{self.target.source}.\nChoose a larger `scale` or `density`, or a wider `dtype`."
            )

    def report(self, command: str | None = None) -> Json:
        """What was done, for `surgery.json`, once every parameter has been formed."""
        groups: dict[str, list[Statistics]] = {}
        for name in sorted(self.names, key=lambda name: (layer_of(name) is None, layer_of(name), name)):
            layer = layer_of(name)
            group = "other" if layer is None else str(layer)
            groups.setdefault(group, []).append(self.statistics.get(name, Statistics()))
        everything = [entry for entries in groups.values() for entry in entries]
        n, k = sum(s.n for s in everything), sum(s.k for s in everything)
        kept = math.fsum(s.kept_energy for s in everything)
        energy = math.fsum(s.energy for s in everything)
        area = self.delta.scope.blocks
        return {
            "inputs": {
                role: {"source": weights.source, "fingerprint": weights.fingerprint()}
                for role, weights in self.inputs.items()
            },
            "delta": self.delta.formula,
            **({"control": self.control} if self.control else {}),
            "settings": self.settings.recorded(),
            **({"edit_area": sorted(area)} if area is not None else {}),
            "threshold": self.chosen.threshold,
            "n": n,
            "k": k,
            "density_achieved": k / n,
            "per_layer": {
                group: {
                    "n": sum(s.n for s in entries),
                    "k": sum(s.k for s in entries),
                    "density": _ratio(sum(s.k for s in entries), sum(s.n for s in entries)),
                    "relative_norm": _relative_norm(entries),
                }
                for group, entries in groups.items()
            },
            "retained_energy": _rounded(kept / energy) if energy else None,
            "relative_norm": _relative_norm(everything),
            "changed": sum(s.changed for s in everything),
            **({"coefficients": {n: _rounded(c) for n, c in self.steps.items()}} if self.steps is not None else {}),
            **({"search": self.search} if self.search else {}),
            **({"facts": about} if (about := getattr(self.delta, "about", None)) else {}),
            "lineage": self.lineage,
            "warnings": self.warnings,
            "command": command,
            "versions": {"python": platform.python_version()} | installed(*BITS_DEPEND_ON),
        }


def _energy(values: Tensor) -> float:
    # torch sums pairwise: to six digits or better, the same wherever in memory the values lie.
    return float((values * values).sum())


def _surely_finite(moved: Tensor, dtype: torch.dtype) -> bool:
    """Whether no value can be infinite or NaN after the cast; a sum is faster than to look at every one."""
    if dtype in (torch.float32, torch.bfloat16):
        return math.isfinite(float(moved.sum()))
    return float(moved.abs().max()) <= torch.finfo(dtype).max  # false for NaN, too


def _bits(values: Tensor) -> Any:
    return values.view(INTEGERS[values.element_size()]).numpy()


def _relative_norm(entries: list[Statistics]) -> float | None:
    weight = math.fsum(s.weight_energy for s in entries)
    steps = math.fsum(s.step_energy for s in entries)
    return _rounded(math.sqrt(steps / weight)) if weight else None


def _ratio(a: int, b: int) -> float | None:
    return _rounded(a / b) if b else None


def _rounded(value: float) -> float:
    """Six digits: as many as the sums are good for."""
    return float(f"{value:.6g}")
