"""Sources: from which checkpoints a delta is made; and the options of an edit, which are sources and settings."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sa_lightning.errors import SettingError
from sa_lightning.source import is_adapter, joined, parts
from sa_lightning.surgery.deltas.merges import Merge
from sa_lightning.surgery.edit.settings import EditSettings
from sa_lightning.surgery.operators.table import Operation
from sa_lightning.surgery.selection.table import Select

__all__ = ["Sources", "SurgeryOptions"]


@dataclass(frozen=True)
class Sources:
    """Which checkpoints are read. Each is a directory, a Hub id, a GGUF file, a PEFT adapter, or `BASE + ADAPTER*0.7`.

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
        facts: JSONL file of facts to write into the target (ROME; several at once: MEMIT), each with `subject`,
            `prompt` (which holds the subject) and `target`: what the reply is to begin with.
        facts_layers: The block into whose MLP they are written, from 0, such as `[5]`. If not set: at a sixth of the
            depth where a fact is written at its subject, at two thirds where at its answer.
        facts_token: Where a fact is read: at the last token of its subject, as in ROME, or where its answer begins. If
            not set: at the subject, or at the answer where no value at the subject makes the model say the target.
        facts_text: Text on which the keys of the model are counted, so that others are disturbed least: a text file, or
            rows with `text`, or `prompt` and `response`. If not set: WikiText-2 where it is at hand and its words are
            known to the tokenizer, else what the model itself writes.
        facts_form: chat: prompts are asked through the template. plain: they are text that the model completes, as in
            ROME.
        facts_known: Write only the facts whose `old` the model says when it is asked, in its own words.
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
    facts: str | None = None
    facts_layers: Sequence[int] | None = None
    facts_token: Literal["subject", "answer"] | None = None
    facts_text: str | None = None
    facts_form: Literal["chat", "plain"] | None = None
    facts_known: bool | None = None
    prompts: str | None = None
    kl_prompts: str | None = None
    scores: str | None = None

    @property
    def harms(self) -> list[str]:
        """The harm models, however many."""
        return self.named(["harm"])

    def named(self, sources: Iterable[str]) -> list[str]:
        """What some sources name, of which each may name several, or none."""
        values = [getattr(self, source) or () for source in sources]
        return [name for value in values for name in ([value] if isinstance(value, str) else value)]

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
        """The same, with local files and directories written so that they are found from elsewhere, too."""
        found = {name: _lasting(value) for name, value in self.given().items() if isinstance(value, str)}
        return dataclasses.replace(self, **{"harm": [_lasting(harm) for harm in self.harms] or None, **found})


@dataclass(frozen=True)
class SurgeryOptions(EditSettings, Sources):
    """Sources and settings of an edit in one, as options and configs have them; the choices are rows of tables."""

    operator: Operation | None = None
    select: Select = "magnitude"
    merge: Merge = "sum"

    def split(self) -> tuple[Sources, EditSettings]:
        """Return the two."""
        sources, settings = (
            {one.name: getattr(self, one.name) for one in fields(kind) if one.init} for kind in (Sources, EditSettings)
        )
        return Sources(**sources), EditSettings(**settings)


def _lasting(value: str) -> str:
    if os.path.exists(value):
        return str(Path(value).resolve())
    found = parts(value)
    if any(is_adapter(part.name) for part in found):
        return joined([part._replace(name=_lasting(part.name)) for part in found])
    return value
