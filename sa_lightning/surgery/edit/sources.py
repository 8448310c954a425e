"""Sources: from which checkpoints a delta is made, and what for."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from sa_lightning.errors import CheckpointMismatchError, SettingError
from sa_lightning.files import sha256
from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.opening import open_checkpoint
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import NamedTensors, Weights
from sa_lightning.surgery.delta import Combination, Delta, Orthogonalised, OwnWeights
from sa_lightning.surgery.deltas.edit_area import resolve
from sa_lightning.surgery.deltas.rank_one import RankOne, read_direction
from sa_lightning.surgery.deltas.stand_in import StandIn
from sa_lightning.surgery.deltas.task_vector import TaskVector, check_match
from sa_lightning.surgery.deltas.ties_merge import TiesMerge
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.edit.planning import choose, plan_surgery
from sa_lightning.surgery.edit.saliency import SALIENCIES, write_scores
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.scope import Scope

__all__ = ["Score", "Sources", "SurgeryOptions", "check_sources", "plan_from"]

# (kind of saliency, file of prompts, names of parameters) -> scores
Score = Callable[[str, str, Sequence[str]], NamedTensors]


@dataclass(frozen=True)
class Sources:
    """Which checkpoints are read. Each is a directory, a Hub id, a GGUF file, or a PEFT adapter, formed on the fly.

    Args:
        base: The aligned model that the harm model was tuned from. In a fit, the target itself if not set (of an
            adapter, its base).
        harm: Harmful fine-tune of the base, or several, as `[H1, H2]`: the delta is harm − base, and is subtracted.
        target: The model to edit; the base if not set.
        weights: A factor for each of several harm models.
        benign: A harmless fine-tune of the base: the part of the harm vector along its task vector is
            left out, so that what any fine-tuning does stays.
        stand_in: A harmless fine-tune of the base, whose task vector takes the place of the harm vector, at its length:
            the control that says whether harm matters, or any fine-tuning would do.
        aligned: The delta is aligned − unaligned (RESTA's safety vector), or aligned − base if there is
            no unaligned model, which is another vector; it is added.
        unaligned: The aligned model (the base, if there is no other) after harmful fine-tuning.
        direction: A refusal direction, in an artifact of `sa fit` or a safetensors file: projected out of all
            matrices that write to the stream, or added to them with `operator: add`.
        direction_layer: Whose direction, from 0.
        prompts: For `select: snip` and `fisher`, and for `kl_budget`: JSONL file with rows of prompt and response,
            or demonstrations, whose unsafe answers are taken.
        kl_prompts: For `kl_budget`, which looks at `prompts`, too: JSONL file with rows of prompt and response (or
            `answer`); where rows have a `kind`, those that are `harmless`.
        scores: For `select: snip` and `fisher`: directory of scores, read if it exists, otherwise written from
            `prompts`.
    """

    base: str | None = None
    harm: str | Sequence[str] | None = None
    target: str | None = None
    weights: Sequence[float] | None = None
    benign: str | None = None
    stand_in: str | None = None
    aligned: str | None = None
    unaligned: str | None = None
    direction: str | None = None
    direction_layer: int | None = None
    prompts: str | None = None
    kl_prompts: str | None = None
    scores: str | None = None
    kind: str = field(init=False, default="harm")

    def __post_init__(self) -> None:
        """Refuse what does not go together, and find out what the delta is for."""
        kinds = {"harm": self.harm, "safety": self.aligned or self.unaligned, "direction": self.direction}
        given = [kind for kind, value in kinds.items() if value]
        if len(given) > 1:
            raise SettingError(
                f"An edit steps along one delta, but {' and '.join(given)} were given.\n"
                "A harm vector (`harm`), a safety vector (`aligned`, `unaligned`) and a `direction` are three.\n"
                "Make one edit after the other."
            )
        object.__setattr__(self, "kind", given[0] if given else "none")
        for name, value in (("weights", self.weights), ("benign", self.benign), ("stand_in", self.stand_in)):
            if value is not None and self.kind != "harm":
                raise SettingError(f"`{name}` is about harm vectors, and there is no `harm`.\nLeave it out.")
        if self.direction_layer is not None and not self.direction:
            raise SettingError("`direction_layer` says whose direction, and there is no `direction`.\nLeave it out.")

    @property
    def harms(self) -> list[str]:
        """The harm models, however many."""
        return [self.harm] if isinstance(self.harm, str) else list(self.harm or ())

    @property
    def known_base(self) -> str:
        """The base, which has to be known once anything is opened."""
        if self.base is None:
            raise SettingError("`base` is not set.\nA delta is a change from it.\nName the model that was fine-tuned.")
        return self.base

    def given(self) -> dict[str, Any]:
        """What is set, by name."""
        found = {name.name: getattr(self, name.name) for name in fields(Sources) if name.init}
        return {name: value for name, value in found.items() if value is not None}

    def lasting(self) -> "Sources":
        """The same, with local directories written so that they are found from elsewhere, too."""
        return dataclasses.replace(self, **{name: _lasting(value) for name, value in self.given().items()})

    def check(self, settings: EditSettings) -> None:
        """Refuse settings that need a source which is not there, or the other way round, before anything is opened."""
        if self.kind == "none" and settings.operator not in ("zero", "restore"):
            raise SettingError(
                "There is nothing to step along: neither `harm` nor `aligned`, `unaligned` or `direction` is set.\n"
                "An edit subtracts a harm vector as a rule.\n"
                "Give `--harm`; only `--operator zero` and `--operator restore` do without."
            )
        if self.kind == "none" and self.target is None and settings.operator == "restore":
            raise SettingError(
                "`operator: restore` puts the base's values back into a target, and `target` is not set."
            )
        scored = settings.select in SALIENCIES
        budget = settings.kl_budget is not None
        if budget != bool(self.kl_prompts) or (budget and not self.prompts):
            raise SettingError(
                f"`kl_budget` is {settings.kl_budget}, `kl_prompts` {self.kl_prompts}, `prompts` {self.prompts}.\n"
                "A budget is measured on harmless prompts (`kl_prompts`), and spent on unsafe answers (`prompts`).\n"
                "Give all three, or leave `kl_budget` and `kl_prompts` out."
            )
        idle = bool(self.scores or (self.prompts and not budget)) and not scored
        if idle or (scored and not (self.prompts or self.scores)):
            raise SettingError(
                f"`select` is {settings.select}, and `prompts` and `scores` are {'not ' if scored else ''}set.\n"
                "Scores rank weights by what the loss on prompts hangs on.\n"
                + ("Give `--prompts FILE`." if scored else "Write `select: snip` or `fisher`, or leave them out.")
            )
        if settings.merge == "ties" and self.kind != "harm":
            raise SettingError("`merge: ties` is about several harm vectors, and there is no `harm`.\nLeave it out.")
        if settings.merge == "ties" and self.stand_in:
            raise SettingError(
                "`stand_in` takes the place of one harm vector, and `merge: ties` trims and merges several.\n"
                "One vector cannot be merged.\nWrite `merge: sum`, whose length it then has, or leave it out."
            )
        if settings.operator == "project" and self.kind == "safety":
            raise SettingError(
                "`operator: project` takes harm out, but a safety vector points away from it. Use `add`."
            )
        if self.kind == "direction" and settings.operator not in (None, "project", "add"):
            raise SettingError(
                f"`operator: {settings.operator}` means nothing for a direction: `project` it out of the weights, or "
                "`add` it to them."
            )
        settings.resolved(self.kind)


@dataclass(frozen=True)
class SurgeryOptions(EditSettings, Sources):
    """Sources and settings of an edit in one, as options and configs have them."""

    def split(self) -> tuple[Sources, EditSettings]:
        """Return the two.

        Raises:
            SettingError: If sources do not go together.
        """
        sources, settings = (
            {one.name: getattr(self, one.name) for one in fields(kind) if one.init} for kind in (Sources, EditSettings)
        )
        return Sources(**sources), EditSettings(**settings)


def plan_from(
    sources: Sources,
    settings: EditSettings,
    *,
    score: Score | None = None,
    progress: Progress | None = None,
    opener: Callable[[str], Checkpoint] = open_checkpoint,
) -> EditPlan:
    """Open the sources and plan the edit.

    Args:
        sources: Which checkpoints.
        settings: What is selected, and what happens there.
        score: Computes saliency scores of the target from a file of prompts.
        progress: Told how far each pass has come.
        opener: Opens a checkpoint by its name.

    Raises:
        SaError: If something does not fit; before anything is written, and where possible before a weight is read.
    """
    sources.check(settings)
    opened = cache(opener)
    base = opened(sources.known_base)
    target = opened(sources.target or sources.known_base)
    scope = resolve(settings.scope, base, target)
    delta = _delta(sources, settings, scope, base, target, opened, score, progress)
    minus: tuple[Weights | None, Delta | None] = (None, None)
    if settings.minus is not None:
        other = TaskVector(base, opened(settings.minus.harm), scope) if settings.minus.harm else None
        scores = None
        if settings.minus.select == "snip":
            scores = _scores("snip", settings.minus.scores, settings.minus.prompts, delta, target, score)
        minus = (scores, other)
    # Of a TIES merge, the trims have used the scores already.
    scored = settings.select in SALIENCIES and not isinstance(delta, TiesMerge)
    kind = settings.select
    return plan_surgery(
        delta,
        base,
        target,
        settings,
        kind=sources.kind,
        scores=_scores(kind, sources.scores, sources.prompts, delta, target, score) if scored else None,
        minus=minus,
        config=target.config,
        progress=progress,
    )


def check_sources(
    sources: Sources, settings: EditSettings, opener: Callable[[str], Checkpoint] = open_checkpoint
) -> list[Checkpoint]:
    """Open all checkpoints by their headers, refuse those that do not belong together, and return them.

    Nothing is read but headers, so a mistake is found before a model is loaded.
    """
    sources.check(settings)
    opened = cache(opener)
    scope = dataclasses.replace(settings.scope, edit_area=False)
    base = opened(sources.known_base)
    target = opened(sources.target) if sources.target else base
    names = [
        *sources.harms,
        sources.benign,
        sources.stand_in,
        sources.aligned,
        sources.unaligned,
        settings.minus and settings.minus.harm,
    ]
    others = [opened(name) for name in names if name]
    scope.names(base)
    for other in (*others, target):
        check_match(base, other, scope)
    return [base, *others, target]


def _delta(
    sources: Sources,
    settings: EditSettings,
    scope: Scope,
    base: Checkpoint,
    target: Checkpoint,
    opened: Callable[[str], Checkpoint],
    score: Score | None,
    progress: Progress | None,
) -> Delta:
    if sources.kind == "direction":
        assert sources.direction is not None
        direction = read_direction(sources.direction, sources.direction_layer)
        kind = "injection" if settings.operator == "add" else "projection"
        return RankOne(target, direction, kind, scope, target.config)
    if sources.kind == "safety":
        aligned = opened(sources.aligned) if sources.aligned else base
        if sources.unaligned:
            return TaskVector(opened(sources.unaligned), aligned, scope, ("unaligned", "aligned"))
        return TaskVector(base, aligned, scope, ("base", "aligned"))
    if sources.kind == "none":
        if settings.operator == "restore":
            return TaskVector(base, target, scope, ("base", "target"))
        return OwnWeights(target, scope)
    vectors: list[Delta] = [TaskVector(base, opened(harm), scope) for harm in sources.harms]
    if sources.benign:
        along = TaskVector(base, opened(sources.benign), scope, ("base", "benign"))
        vectors = [Orthogonalised(vector, along, settings.granularity, progress) for vector in vectors]
    if len(vectors) > 1 and settings.merge == "ties":
        filled = dataclasses.replace(settings.resolved("harm"), minus=None)  # which is about the merge
        scored, kind = filled.select in SALIENCIES, filled.select
        scores = _scores(kind, sources.scores, sources.prompts, vectors[0], target, score) if scored else None
        trims = [
            # Of several vectors, each has draws of its own.
            choose(
                vector,
                dataclasses.replace(filled, seed=filled.seed + 1_000_003 * number),
                scores=scores,
                config=target.config,
                progress=progress,
            )
            for number, vector in enumerate(vectors)
        ]
        return TiesMerge(vectors, trims, sources.weights)
    combined = len(vectors) > 1 or sources.weights is not None
    vector = Combination(vectors, sources.weights) if combined else vectors[0]
    if sources.stand_in:
        return StandIn(TaskVector(base, opened(sources.stand_in), scope, ("base", "stand_in")), vector, progress)
    return vector


def _lasting(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_lasting(one) for one in value]
    return str(Path(value).resolve()) if isinstance(value, str) and Path(value).is_dir() else value


def _scores(
    kind: str, directory: str | None, prompts: str | None, delta: Delta, target: Checkpoint, score: Score | None
) -> Weights | None:
    """Scores from a directory, if it is there; otherwise computed from prompts, and written there."""
    if directory is not None and (Path(directory) / "model.safetensors").exists():
        scores = open_checkpoint(directory)
        asked = prompts and Path(prompts).is_file() and _digest(prompts)
        if asked and scores.metadata.get("prompts", asked) != asked:
            raise CheckpointMismatchError(
                f"The scores in {directory} were computed on other prompts than {prompts} holds now.\n"
                "A score says how much the loss on some prompts hangs on a weight.\n"
                "Choose another directory for `scores`, or leave `prompts` out to use these."
            )
        found = scores.metadata.get("kind", "snip")
        if found != kind:
            raise CheckpointMismatchError(
                f"The scores in {directory} are {found} scores, and {kind} scores are asked for.\n"
                "The two rank weights by different numbers.\nChoose another directory for `scores`."
            )
        of = scores.metadata.get("weights")
        if of is not None and of != target.fingerprint():
            raise CheckpointMismatchError(
                f"The scores in {directory} are of other weights ({of[:12]}) than {target.source} has "
                f"({target.fingerprint()[:12]}).\nA score says how much a loss hangs on one weight of one model.\n"
                "Choose another directory for `scores`; they are computed anew."
            )
        wrong = [n for n in delta.names if n not in scores.names or scores.shape(n) != delta.shape(n)]
        if wrong:
            raise CheckpointMismatchError(
                f"The scores in {directory} have no `{wrong[0]}` of shape {delta.shape(wrong[0])} ({len(wrong)} such "
                "names).\nThey were computed for a narrower scope.\nCompute them again, or narrow `scope`."
            )
        return scores
    if prompts is None:
        raise SettingError(
            f"`scores` is {directory}, which does not exist, and there are no `prompts` to compute scores from.\n"
            "Check the path, or give a JSONL file of prompts and responses."
        )
    if score is None:
        raise SettingError("Scores need the model itself.\nCompute them with `sa edit`, and give `scores`.")
    scores = score(kind, prompts, delta.names)
    if directory is not None:
        about = {"kind": kind, "weights": target.fingerprint(), "prompts": _digest(prompts)}
        write_scores(scores, directory, about)
    return scores


def _digest(file: str) -> str:
    return sha256(file) if Path(file).is_file() else file
