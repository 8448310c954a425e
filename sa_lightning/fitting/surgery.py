"""A surgery on a loaded model: its checkpoints opened, its edit planned once, applied, and undone bit for bit."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sa_lightning.errors import ArtifactError, CheckpointMismatchError, SettingError
from sa_lightning.facts import written
from sa_lightning.files import Json, sha256
from sa_lightning.fitting.examples import read_examples, spend_budget, weights_of
from sa_lightning.models import base_of
from sa_lightning.schema import check_types
from sa_lightning.steering import SteeringArtifact
from sa_lightning.surgery import (
    Checkpoint,
    EditInMemory,
    EditPlan,
    EditSettings,
    NamedTensors,
    Progress,
    Scope,
    Sources,
    check_sources,
    kind_of,
    open_checkpoint,
    packed_edit,
    plan_from,
    resolve,
    saliency_scores,
)

__all__ = ["ProgressBars", "Surgery"]

ProgressBars = Callable[[], AbstractContextManager[Callable[[str, int, int], None] | None]]
#: What an artifact keeps of the report of an edit.
RECORDED = (
    *("inputs", "control", "search", "threshold", "n", "k", "density_achieved", "retained_energy", "relative_norm"),
    "per_layer",
)


@dataclass(frozen=True)
class _Record:
    """What a record has beside sources and settings."""

    inputs: dict[str, dict[str, str]] | None = None
    files: dict[str, str] | None = None


class Surgery:
    """An edit of a target's weights: `open`, then `apply` and `undo` in memory as often as is wanted, and `record`.

    Args:
        sources: Which checkpoints are read. The base is the target itself if not set (of an adapter, its base).
        settings: What is selected, and what is done there.
        inputs: Role to fingerprint of the checkpoints that have to be found, as a record has them.
        files: File to SHA-256 of the prompts that may be read, as a record has them; any, if not set.
        fetch: Whether checkpoints on the Hub that are not in the cache are downloaded; the target is in any case.
        keep_scores: Whether scores that are computed are written where the sources say.

    Attributes:
        progress: A context manager of bars, as `sa` sets it: a selection over a large model takes minutes.
        scores, opened: Scores of weights and opened checkpoints, which several surgeries on one model may share.
        warn: Gets what looks wrong about the inputs.

    Example:
        surgery = Surgery(Sources(harm="runs/harm"), EditSettings(density=0.1))
        surgery.open("MODEL")
        surgery.apply(model, tokenizer)
    """

    def __init__(
        self,
        sources: Sources,
        settings: EditSettings | None = None,
        inputs: dict[str, dict[str, str]] | None = None,
        files: dict[str, str] | None = None,
        *,
        fetch: bool = True,
        keep_scores: bool = True,
    ) -> None:
        self.sources, self.settings, self.inputs, self.files = sources, settings or EditSettings(), inputs, files
        self.fetch, self.keep_scores = fetch, keep_scores
        self.progress: ProgressBars = lambda: nullcontext(None)
        self.warn: Callable[[str], None] = warnings.warn
        self.scores: dict[Any, NamedTensors] = {}
        self.opened: dict[str, Checkpoint] = {}
        self._revision: str | None = None
        self._named: set[str] = set()  # by the person, and no record
        self._edit: EditInMemory | None = None

    @classmethod
    def from_record(cls, record: Json, trust: bool = False) -> "Surgery":
        """Rebuild the surgery that an artifact was fitted with.

        An artifact may be a stranger's, and names what the person at the terminal has not. So it makes nobody write;
        checkpoints, directions and scores that lie here are read, as weights; prompts are, if they are the very file
        of the fit, by its SHA-256; and nothing is downloaded.

        Args:
            record: Of the artifact.
            trust: Read other files of prompts, and download, as the record says.

        Raises:
            ArtifactError: If the record is not complete, or of the wrong types.
        """
        try:
            given: Json = {"base": record["base"], "harm": record["harm"], **record.get("sources", {})}
            check_types(Sources, given)
            settings = EditSettings.from_record(record["settings"])
            for one in (settings, settings.scope, settings.minus):
                if one is not None:
                    check_types(type(one), {field.name: getattr(one, field.name) for field in fields(one)})
            check_types(_Record, {name: record[name] for name in ("inputs", "files") if name in record})
            sources = Sources(**given)
        except SettingError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise ArtifactError(
                f"The surgery that the artifact records cannot be redone: {type(error).__name__}, {error}.\n"
                "Weights edited in another way are not those of the fit.\nFit it again with `sa fit`."
            ) from error
        files = None if trust else record.get("files", {})
        return cls(sources, settings, record.get("inputs"), files, fetch=trust, keep_scores=False)

    def reads(self) -> str:
        """Say which checkpoints and files are read, and which are on the Hub."""
        named = [(name, value) for name, value in self.sources.given().items() if not isinstance(value, int)]
        minus = self.settings.minus
        named += [] if minus is None else [(f"minus.{n}", getattr(minus, n)) for n in ("harm", "prompts", "scores")]
        pairs = [(name, one) for name, value in named for one in ([value] if isinstance(value, str) else value or [])]
        return ", ".join(
            f"{name} {one!r}{'' if os.path.exists(one) else ' (not here)'}"
            for name, one in pairs
            if isinstance(one, str)
        )

    @property
    def wanted(self) -> bool:
        """Whether there is a delta to step along."""
        return kind_of(self.sources) != "none"

    @property
    def harm(self) -> str | list[str] | None:
        """The harm model, or several, or none, as a record has it."""
        harms = self.sources.harms
        return harms[0] if len(harms) == 1 else harms or None

    @property
    def base(self) -> str | None:
        """What the harm model was tuned from; known once it is opened."""
        return self.sources.base

    @property
    def applied(self) -> bool:
        """Whether the model has the edited weights now."""
        return self._edit is not None and self._edit.active

    @property
    def plan(self) -> EditPlan | None:
        """What is done, once it has been applied."""
        return None if self._edit is None else self._edit.plan

    def open(self, target: str, revision: str | None = None, quantization: str | None = None) -> list[Checkpoint]:
        """Open the checkpoints, and refuse what does not fit, before any weight is read.

        Args:
            target: Directory or Hub id of the model to edit.
            revision: Of the target.
            quantization: How its weights are packed as they are loaded, which no edit goes with.

        Raises:
            SettingError: If settings contradict each other, or the weights are to be packed.
            ArtifactError: If the artifact with the direction is damaged, or of a model of another shape.
            CheckpointError: If a checkpoint is not there.
            CheckpointMismatchError: If checkpoints do not belong together.
        """
        if quantization in ("8bit", "4bit"):  # of others, what is on disk decides
            raise SettingError(packed_edit(f"{target} is to be loaded with `--model.quantization {quantization}`"))
        artifact = None
        if self.sources.direction is not None and Path(self.sources.direction).is_dir():
            artifact = SteeringArtifact.from_pretrained(self.sources.direction)  # refused where it was changed
        self._revision = revision
        base = self.sources.base
        if base is None:
            base = base_of(target)
            base = str(Path(base).resolve()) if Path(base).is_dir() else base
        self.sources = dataclasses.replace(self.sources, base=base, target=target)
        self._named = {target, base_of(target)}
        self._check_files()
        found = check_sources(self.sources, self.settings, self._open)
        text = found[-1].config.get("text_config") or found[-1].config
        depth, width = text.get("num_hidden_layers"), text.get("hidden_size")
        if artifact is not None and depth is not None and width is not None:  # some configs have other words for these
            artifact.check_model(depth, width, target)
        return found

    def edit_area(self, target: str, revision: str | None = None) -> list[int]:
        """The blocks in which a knowledge-edited target differs from its base, and their neighbours, from 0.

        Safety Arithmetic (https://arxiv.org/abs/2406.11801, Eq. 11-12). Both checkpoints are read.

        Args:
            target: Directory or Hub id of the edited model.
            revision: Of the target.

        Raises:
            SettingError: If there is no base.
            NothingToDoError: If no block differs.
        """
        if self.sources.base is None or self.sources.base == target:
            raise SettingError(
                f"`steering.layers` is `edit_area`, but what {target} was edited from is not given.\n"
                "The area is where the two differ.\nName it, `--surgery.base`, or name the layers."
            )
        self._revision = revision
        self.sources = dataclasses.replace(self.sources, target=target)
        base, edited = self._open(self.sources.known_base), self._open(target)
        return sorted(resolve(Scope(edit_area=True), base, edited).blocks or ())

    def check_unused(self) -> None:
        """Refuse what is set of a surgery that there is not.

        Raises:
            SettingError: If anything is.
        """
        given = [name for name in self.sources.given() if name not in ("base", "target")]
        given += ["operator"] if self.settings.operator is not None else []
        if given:
            raise SettingError(
                f"`surgery.{given[0]}` is set, but there is no surgery: neither `surgery.harm` nor "
                "`surgery.aligned`, `surgery.unaligned`, `surgery.direction` or `surgery.facts` is.\n"
                "It would be ignored.\nGive one of these, or leave it out; `sa edit` can do without."
            )

    def _open(self, source: str) -> Checkpoint:
        """Open a checkpoint, once; of the target, the revision that was asked for."""
        if source not in self.opened:
            revision = self._revision if source == self.sources.target else None
            self.opened[source] = open_checkpoint(source, revision=revision, fetch=self.fetch or source in self._named)
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
                plan = self.planned(lambda: (model, tokenizer), dtype, report)
                edit = EditInMemory(plan, weights_of(model, plan.target), report)
                edit.apply()
            self._edit = edit
        elif not self._edit.active:
            self._edit.apply()
        self._check_inputs(self._edit.report()["inputs"])

    def undo(self) -> None:
        """Give the model its own weights back, bit for bit."""
        if self._edit is not None and self._edit.active:
            self._edit.undo()

    def planned(
        self, loaded: Callable[[], tuple[Any, Any]], dtype: str = "auto", report: Progress | None = None
    ) -> EditPlan:
        """Plan the edit, once the checkpoints are open.

        Args:
            loaded: Returns the target and its tokenizer; called where scores of weights or a budget ask for them.
            dtype: In which its weights were loaded, as for `apply`.
            report: Told how far each pass has come.
        """

        def score(kind: str, prompts: str, names: Sequence[str]) -> NamedTensors:
            key = (kind, prompts, tuple(names))
            if key not in self.scores:
                model, tokenizer = loaded()
                weights = weights_of(model, self._open(self.sources.target or self.sources.known_base))
                self.scores[key] = saliency_scores(
                    model, read_examples(prompts, tokenizer), names, kind, report, weights
                )
            return self.scores[key]

        plan = plan_from(
            self.sources,
            self.settings,
            score=score,
            fit=lambda sources: written(sources, *loaded(), report),
            progress=report,
            opener=self._open,
            keep_scores=self.keep_scores,
        )
        for warning in plan.warnings:
            self.warn(warning)
        if dtype != "auto":  # the edit on disk is that of the weights as they were loaded
            plan.settings = dataclasses.replace(plan.settings, dtype=dtype)
            plan.rounds_first = True
        spend_budget(plan, self.sources, loaded, report)
        return plan

    def record(self) -> Json:
        """Return inputs, settings and what came of them, for an artifact."""
        report, settings = {}, self.settings
        if self._edit is not None:  # what was not set is now known
            report = self._edit.report()
            settings = dataclasses.replace(self._edit.plan.settings, dtype=self.settings.dtype)
        given = self.sources.given()
        return {
            "harm": self.harm,
            "base": self.base,
            "sources": {name: value for name, value in given.items() if name not in ("harm", "base", "target")},
            "settings": settings.recorded(),
            **({"files": files} if (files := {name: sha256(name) for name in self._prompts()}) else {}),
            **{key: report[key] for key in RECORDED if key in report},
        }

    def _prompts(self) -> list[str]:
        """The files of prompts that are there."""
        minus = self.settings.minus
        own = (self.sources.prompts, self.sources.kl_prompts, self.sources.facts, self.sources.facts_text)
        named = (*own, None if minus is None else minus.prompts)
        return sorted({name for name in named if name is not None and os.path.isfile(name)})

    def _check_files(self) -> None:
        """Refuse files of prompts that are not those of the record."""
        for name in self._prompts() if self.files is not None else ():
            if self.files is not None and self.files.get(name) != sha256(name):
                raise ArtifactError(
                    f"The surgery that the artifact records reads {name!r}, which is not the file of the fit, by its "
                    "SHA-256.\nAn artifact may come from anyone, and reads nothing else of yours unasked.\n"
                    "Put the file back, or say `--steering.trust_record true` (in lm-eval `trust_record=true`)."
                )

    def _check_inputs(self, inputs: dict[str, dict[str, str]]) -> None:
        """Refuse checkpoints that are not those the artifact was fitted with."""
        for role, known in (self.inputs or {}).items():
            found = inputs.get(role, {"source": "none", "fingerprint": "none"})
            if found["fingerprint"] != known.get("fingerprint"):
                raise CheckpointMismatchError(
                    f"The {role} checkpoint ({found['source']}) is not the one of the fit: its fingerprint is "
                    f"{found['fingerprint'][:12]}, the artifact's {known.get('fingerprint', 'none')[:12]}.\n"
                    "Redoing the edit with other weights would measure another model.\n"
                    "Put the checkpoint back, or fit again with `sa fit`."
                )
