"""A surgery on a loaded model: its checkpoints opened, its edit planned once, applied, and undone bit for bit."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sa_lightning.errors import CheckpointMismatchError, SettingError
from sa_lightning.fitting.examples import read_examples, spend_budget
from sa_lightning.models import base_of, is_adapter
from sa_lightning.surgery import (
    Checkpoint,
    EditInMemory,
    EditPlan,
    EditSettings,
    ModelWeights,
    NamedTensors,
    Sources,
    check_sources,
    open_checkpoint,
    plan_from,
    saliency_scores,
)

__all__ = ["ProgressBars", "Surgery"]

ProgressBars = Callable[[], AbstractContextManager[Callable[[str, int, int], None] | None]]
#: What an artifact keeps of the report of an edit.
RECORDED = (
    *("inputs", "control", "search", "threshold", "n", "k", "density_achieved", "retained_energy", "relative_norm"),
    "per_layer",
)


class Surgery:
    """An edit of a target's weights in memory: `open`, then `apply` and `undo` as often as is wanted, and `record`.

    Args:
        harm: Harmful fine-tune of the base, or several; as of `Sources`.
        base: What they were tuned from; the target itself if not set (of an adapter, its base).
        settings: What is selected, and what is done there.
        inputs: Role to fingerprint of the checkpoints that have to be found, as a record has them.
        **more: Other sources, as `Sources` takes them.

    Attributes:
        progress: A context manager of bars, as `sa` sets it: a selection over a large model takes minutes.
        scores, opened: Scores of weights and opened checkpoints, which several surgeries on one model may share.
        warn: Gets what looks wrong about the inputs.

    Example:
        surgery = Surgery(harm="runs/harm", settings=EditSettings(density=0.1))
        surgery.open("MODEL")
        surgery.apply(model, tokenizer)
    """

    def __init__(
        self,
        harm: str | Sequence[str] | None = None,
        base: str | None = None,
        settings: EditSettings | None = None,
        inputs: dict[str, dict[str, str]] | None = None,
        **more: Any,
    ) -> None:
        self.harm, self.base, self.more, self.inputs = harm, base, more, inputs
        self.settings = EditSettings() if settings is None else settings
        self.progress: ProgressBars = lambda: nullcontext(None)
        self.warn: Callable[[str], None] = warnings.warn
        self.sources: Sources | None = None
        self.scores: dict[Any, NamedTensors] = {}
        self.opened: dict[str, Checkpoint] = {}
        self._revision: str | None = None
        self._edit: EditInMemory | None = None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Surgery":
        """Rebuild the surgery that an artifact was fitted with."""
        settings = EditSettings.from_record(record["settings"])
        return cls(record["harm"], record["base"], settings, record.get("inputs"), **record.get("sources", {}))

    @property
    def wanted(self) -> bool:
        """Whether there is any surgery to do."""
        return bool(self.harm or any(self.more.get(role) for role in ("aligned", "unaligned", "direction")))

    @property
    def applied(self) -> bool:
        """Whether the model has the edited weights now."""
        return self._edit is not None and self._edit.active

    @property
    def plan(self) -> EditPlan | None:
        """What is done, once it has been applied."""
        return None if self._edit is None else self._edit.plan

    def open(self, target: str, revision: str | None = None) -> None:
        """Open the checkpoints, and refuse what does not fit, before any weight is read.

        Args:
            target: Directory or Hub id of the model to edit.
            revision: Of the target.

        Raises:
            SettingError: If settings contradict each other, or say something of a surgery that there is not.
            CheckpointError: If a checkpoint is not there.
            CheckpointMismatchError: If checkpoints do not belong together.
        """
        if not self.wanted:
            given = [name for name, value in self.more.items() if value is not None]
            given += ["operator"] if self.settings.operator is not None else []
            if given:
                raise SettingError(
                    f"`surgery.{given[0]}` is set, but there is no surgery: neither `surgery.harm` nor "
                    "`surgery.aligned`, `surgery.unaligned` or `surgery.direction` is.\n"
                    "It would be ignored.\nGive one of these, or leave it out; `sa edit` can do without."
                )
            return
        self._revision = None if is_adapter(target) else revision
        self.base = _lasting(self.base or base_of(target))
        harms = [_lasting(harm) for harm in ([self.harm] if isinstance(self.harm, str) else self.harm or [])]
        self.harm = harms[0] if len(harms) == 1 else harms or None
        more: dict[str, Any] = {name: _lasting(v) if isinstance(v, str) else v for name, v in self.more.items()}
        self.more = more
        self.sources = Sources(self.base, tuple(harms), target, **self.more)
        check_sources(self.sources, self.settings, self._open)

    def _open(self, source: str) -> Checkpoint:
        """Open a checkpoint, once; of the target, the revision that was asked for."""
        if source not in self.opened:
            target = self.sources.target if self.sources is not None else None
            self.opened[source] = open_checkpoint(source, revision=self._revision if source == target else None)
        return self.opened[source]

    def apply(self, model: Any, tokenizer: Any = None, dtype: str = "auto") -> None:
        """Give the model its edited weights; planned the first time, which may take minutes.

        Args:
            model: The target, loaded; with its own weights.
            tokenizer: Of the model, where scores of weights or a budget ask for it.
            dtype: In which its weights were loaded, `auto` if it is that of the checkpoint.

        Raises:
            CheckpointMismatchError: If the checkpoints are not those of the record.
        """
        if self._edit is None:
            with self.progress() as report:
                plan = self._planned(model, tokenizer, dtype, report)
                edit = EditInMemory(plan, ModelWeights(model), report)
                edit.apply()
            self._edit = edit
        elif not self._edit.active:
            self._edit.apply()
        self._check_inputs(self._edit.report()["inputs"])

    def undo(self) -> None:
        """Give the model its own weights back, bit for bit."""
        if self._edit is not None and self._edit.active:
            self._edit.undo()

    def _planned(self, model: Any, tokenizer: Any, dtype: str, report: Any) -> EditPlan:
        assert self.sources is not None, "`open` has made them"

        def score(kind: str, prompts: str, names: Sequence[str]) -> NamedTensors:
            key = (kind, prompts, tuple(names))
            if key not in self.scores:
                self.scores[key] = saliency_scores(model, read_examples(prompts, tokenizer), names, kind, report)
            return self.scores[key]

        plan = plan_from(self.sources, self.settings, score=score, progress=report, opener=self._open)
        for warning in plan.warnings:
            self.warn(warning)
        if dtype != "auto":  # the edit on disk is that of the weights as they were loaded
            plan.settings = dataclasses.replace(plan.settings, dtype=dtype)
            plan.rounds_first = True
        spend_budget(plan, self.sources, model, tokenizer, report)
        return plan

    def record(self) -> dict[str, Any]:
        """Return inputs, settings and what came of them, for an artifact."""
        report, settings = {}, self.settings
        if self._edit is not None:  # what was not set is now known
            report = self._edit.report()
            settings = dataclasses.replace(self._edit.plan.settings, dtype=self.settings.dtype)
        return {
            "harm": self.harm,
            "base": self.base,
            "sources": {name: value for name, value in self.more.items() if value is not None},
            "settings": settings.recorded(),
            **{key: report[key] for key in RECORDED if key in report},
        }

    def _check_inputs(self, inputs: dict[str, dict[str, str]]) -> None:
        """Refuse checkpoints that are not those the artifact was fitted with."""
        for role, known in (self.inputs or {}).items():
            if inputs[role]["fingerprint"] != known["fingerprint"]:
                raise CheckpointMismatchError(
                    f"The {role} checkpoint {inputs[role]['source']} is not the one of the fit: its fingerprint is "
                    f"{inputs[role]['fingerprint'][:12]}, the artifact's {known['fingerprint'][:12]}.\n"
                    "Redoing the edit with other weights would measure another model.\n"
                    "Put the checkpoint back, or fit again with `sa fit`."
                )


def _lasting(source: str) -> str:
    """Write a local directory so that it is found from elsewhere, too."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source
