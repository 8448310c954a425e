"""The settings of an edit: what is selected of a delta, and what is done there."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch

from sa_lightning.errors import SettingError
from sa_lightning.files import Json
from sa_lightning.ranges import check_fields, check_numbers
from sa_lightning.surgery.deltas.merges import MERGES
from sa_lightning.surgery.operators.operator import Operator
from sa_lightning.surgery.operators.table import OPERATORS
from sa_lightning.surgery.scope import Granularity, Scope
from sa_lightning.surgery.selection.kind import SelectionKind
from sa_lightning.surgery.selection.outside import check_whole_outside
from sa_lightning.surgery.selection.table import SELECTIONS
from sa_lightning.surgery.selection.top_k import Ties

__all__ = ["Control", "EditSettings", "Minus"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

Row = TypeVar("Row")
Control = Literal["none", "size", "norm"]


@dataclass(frozen=True)
class Minus:
    """A second selection, whose entries are left out of the first: a set difference.

    Args:
        density: Fraction of entries that it selects, in (0, 1].
        select: `snip` by scores of its own, from `prompts` of utility, say; `magnitude` of the delta, or
            of that of `harm`; or another of `EditSettings.select` that takes a density.
        granularity: Where it cuts.
        scores: Directory of its scores: read if it exists, written if it does not and there are prompts.
        prompts: JSONL file of prompts and responses its scores are computed on.
        harm: A fine-tune of the base in place of the delta: its largest entries are left out.
    """

    density: float
    select: str = "snip"
    granularity: Granularity = "global"
    scores: str | None = None
    prompts: str | None = None
    harm: str | None = None

    def check(self) -> None:
        """Refuse what cannot be meant."""
        check_numbers("minus.density", self.density)
        kind = self.kind
        if kind.setting is not None:
            raise SettingError(
                f"`minus.select: {self.select}` goes by `{kind.setting}`, which `minus` does not have.\n"
                "It leaves out a fraction of the entries.\nChoose another `minus.select`."
            )
        if kind.saliency is not None and not (self.scores or self.prompts):
            raise SettingError(
                f"`minus.select` is {self.select}, but there are neither `minus.scores` nor `minus.prompts`.\n"
                "Scores rank weights by what the loss on prompts hangs on.\nGive prompts, or `minus.select: magnitude`."
            )
        ignored = {"harm": not kind.reads_delta, "scores": kind.saliency is None, "prompts": kind.saliency is None}
        for name, unread in ignored.items():
            if unread and getattr(self, name) is not None:
                raise SettingError(
                    f"`minus.{name}` is set, but `minus.select: {self.select}` does not look at it.\n"
                    "Leave it out, or choose another `minus.select`."
                )

    @property
    def kind(self) -> SelectionKind:
        """What `minus.select` names."""
        return _row(SELECTIONS, "minus.select", self.select)


@dataclass(frozen=True)
class EditSettings:
    """What is selected of a delta, what is done there, and how far.

    Args:
        density: Fraction of entries to keep, in (0, 1]; the paper's "top 10 %" is 0.1. If not set: 0.1 of a
            harm vector, all of a safety vector or direction.
        scale: How many times the delta is subtracted or added (the paper's lambda, there
            between 2 and 3). If not set: 2 times a harm vector, once anything else; of
            what is projected out, once is all of it. 0 is a control: not a bit of the target changes.
        layer_scales: Factors of `scale` by block, from 0, such as {0: 0.5, 11: 1.2, other: 0}; `other` is what
            belongs to no block (embeddings, final norm, head). What is not named keeps a factor of 1.
        kl_budget: Find `layer_scales` instead: such that harmless answers (of `kl_prompts`) change by so much in all,
            in nats a token (mean KL of the original from the edited), and unsafe ones (of `prompts`) become as unlikely
            as can be. Where `layer_scales` are given, too, they are taken as found.
        operator: What happens to the selected entries: subtract or add the delta; project out of the
            target's own change from the base what lies along the delta, tensor by tensor (of a
            direction: out of the weights); set them to zero; restore the base's. If not set: subtract
            a harm vector, add a safety vector, project a direction out.
        select: Keep the entries of largest magnitude; as many at random; dare: each with probability
            `density`, rescaled; snip: those the loss on `prompts` hangs on most; fisher: those where taking the
            delta back would change that loss most (F · δ² with the diagonal Fisher information F of the loss); heads:
            what `heads` names.
        control: `size` (or true): keep as many entries as `select` would, cut by cut, but at random: the control
            that says whether the selection matters. Of a TIES merge, every trim is at random. `norm`: besides, scale
            the step to the length of that of the entries that `select` would keep.
        granularity: Cut once over the whole scope (as the authors' code does), or in every layer
            or tensor by itself.
        ties: Entries exactly on the cut: split them by a seeded hash so that exactly the density
            remains, keep them all (the authors' code), or drop them all. In half precision they
            can be a quarter of all entries.
        minus: A second selection that is left out of the first.
        heads: Attention heads by block, both from 0, for `select: heads`, such as {5: [0, 3]}.
        merge: Several harm vectors: sum them and trim the sum, or trim each and merge by TIES.
        scope: Which parameters may change.
        seed: Seed of random selections and of the choice among ties (and, in `sa edit`, of `world:` names).
        dtype: Data type of the edited weights; auto leaves each tensor in the target's own.
    """

    density: float | None = None
    scale: float | None = None
    layer_scales: dict[int | str, float] | None = None
    kl_budget: float | None = None
    operator: str | None = None
    select: str = "magnitude"
    control: Control | bool = "none"
    granularity: Granularity = "global"
    ties: Ties = "split"
    minus: Minus | None = None
    heads: dict[int, list[int]] | None = None
    merge: str = "sum"
    scope: Scope = field(default_factory=Scope)
    seed: int = 0
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if isinstance(self.control, bool):  # as records of earlier versions have it
            object.__setattr__(self, "control", "size" if self.control else "none")
        _row(MERGES, "merge", self.merge)
        check_fields(self)
        if self.minus is not None:
            self.minus.check()
        if self.layer_scales is not None:
            named: dict[int | str, float] = {str(layer): scale for layer, scale in self.layer_scales.items()}
            object.__setattr__(self, "layer_scales", named)
            _check_layer_scales(named)
        if self.kl_budget is not None and self.scale == 0:
            raise SettingError(
                f"`kl_budget` is {self.kl_budget:g} and `scale` is 0.\n"
                "The budget is met by factors of `scale`, and of 0 there are none.\nLeave one of the two out."
            )
        steps = (("scale", self.scale), ("layer_scales", self.layer_scales), ("kl_budget", self.kl_budget))
        for name, value in steps:
            if self.operator is not None and not self.operation.steps and value is not None:
                raise SettingError(
                    f"`{name}` is {value}, but `operator: {self.operator}` takes no step.\n"
                    f"It puts a value in place of another. Leave `{name}` out."
                )
        if self.selection.rescales and self.operator is not None and not self.operation.steps:
            raise SettingError(
                f"`select: {self.select}` rescales a step, and `operator: {self.operator}` takes none.\n"
                "Write `select: random`."
            )
        for name, kind in SELECTIONS.items():
            value = getattr(self, kind.setting) if kind.setting else None
            if kind.setting and (self.select == name) != (value is not None):
                raise SettingError(
                    f"`select` is {self.select} and `{kind.setting}` is {'not set' if value is None else value}.\n"
                    f"They belong together.\nWrite `select: {name}` and `{kind.setting}: {kind.example}`, or neither."
                )
        if self.scope.outside == "whole":
            check_whole_outside(self.scope, self.selection.rescales or self.control == "norm")
        if self.selection.setting and self.density is not None:
            raise SettingError(
                f"`density` is {self.density:g}, but `select: {self.select}` takes all that `{self.selection.setting}` "
                "names.\nLeave `density` out."
            )

    @property
    def selection(self) -> SelectionKind:
        """What `select` names."""
        return _row(SELECTIONS, "select", self.select)

    @property
    def operation(self) -> Operator:
        """What `operator` names, once it is known."""
        return _row(OPERATORS, "operator", str(self.operator))

    def scale_in(self, group: str) -> float:
        """How far (resolved) settings step within a layer, or `other` (`group_of`)."""
        return (self.scale or 0.0) * (self.layer_scales or {}).get(group, 1.0)

    def recorded(self) -> Json:
        """As a record, for JSON, from which `from_record` makes the settings again."""
        record = dataclasses.asdict(self)
        if self.heads is not None:
            record["heads"] = {str(layer): heads for layer, heads in self.heads.items()}
        return record

    @classmethod
    def from_record(cls, record: Json) -> "EditSettings":
        """The settings of a record."""
        scope: Json = {**record["scope"]}
        for name in ("include", "exclude", "layers"):
            scope[name] = None if scope[name] is None else tuple(scope[name])
        record = {**record, "scope": Scope(**scope)}
        if record.get("minus"):
            record["minus"] = Minus(**record["minus"])
        if record.get("heads"):
            record["heads"] = {int(layer): list(heads) for layer, heads in record["heads"].items()}
        return cls(**record)


def _row(table: Mapping[str, Row], setting: str, name: str) -> Row:
    """The row of a table that a setting names."""
    if name not in table:
        raise SettingError(f"`{setting}` is {name}, which is none of {', '.join(table)}.\nChoose one of these.")
    return table[name]


def _check_layer_scales(scales: dict[int | str, float]) -> None:
    wrong = [layer for layer in scales if not (str(layer).isdigit() or layer == "other")]
    if wrong or not scales:
        raise SettingError(
            f"`layer_scales` names {', '.join(map(str, wrong)) or 'no layer'}, but layers are 0, 1, …, and `other`.\n"
            "A factor without a layer would be ignored.\nWrite, say, `layer_scales: {0: 0.5, other: 0}`."
        )
