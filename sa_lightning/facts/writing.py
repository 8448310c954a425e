"""Facts of a file, written on a loaded model: what `--facts` of `sa edit`, and a fit, add to its weights."""

from typing import Any

from sa_lightning.errors import NothingToDoError
from sa_lightning.facts.asking import Asking
from sa_lightning.facts.covariance import Report
from sa_lightning.facts.editor import Editor
from sa_lightning.facts.known import known
from sa_lightning.facts.record import Fact, read_facts
from sa_lightning.facts.texts import contexts_of, text_of
from sa_lightning.surgery import Factors, ModelWeights, Sources

__all__ = ["CONTEXTS", "editor_of", "facts_of", "written"]

CONTEXTS = 3  # beginnings under which keys and values are looked for


def written(sources: Sources, model: Any, tokenizer: Any, report: Report | None = None) -> dict[str, Factors]:
    """Find what the facts of `sources` add to the weights of a model, which stays as it is.

    Raises:
        SaError: If a fact cannot be written: no such subject, no down projection, nothing known.
    """
    asking = Asking(model, tokenizer, sources.facts_form != "plain")
    facts = facts_of(sources, asking)
    return editor_of(sources, asking, report).write(facts)


def facts_of(sources: Sources, asking: Asking) -> list[Fact]:
    """The facts of `sources.facts`; with `facts_known`, those that the model knows, in its own words."""
    assert sources.facts is not None
    facts = read_facts(sources.facts)
    if not sources.facts_known:
        return facts
    found = known(asking, facts)
    if not found:
        raise NothingToDoError(
            f"The model knows none of the {len(facts)} facts of {sources.facts}: `old` is in none of its replies.\n"
            "What it does not know cannot be changed.\nGive facts that it knows, or leave `facts_known` out."
        )
    return found


def editor_of(sources: Sources, asking: Asking, report: Report | None = None) -> Editor:
    """An editor of a model, as `sources` has it."""
    text, about = text_of(asking, sources.facts_text, report)
    return Editor(
        asking,
        text,
        sources.facts_layers[0] if sources.facts_layers else None,
        contexts_of(text, CONTEXTS),
        sources.facts_token,
        fingerprint=ModelWeights(asking.model).fingerprint(),
        report=report,
        about={"text": about},
    )
