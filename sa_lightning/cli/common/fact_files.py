"""`sa edit --facts … --format known` and `measured`: files of facts, in place of an edited model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sa_lightning.errors import SettingError
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.progress import stages
from sa_lightning.surgery import Sources

FACTS = ("known", "measured")


def write_facts_file(sources: Sources, config: Any, loaded: Callable[[], tuple[Any, Any]]) -> None:
    """Write facts that the model knows, or what became of each that was written into it by itself."""
    from sa_lightning.evaluation.statistics.intervals import rate
    from sa_lightning.facts import Asking, editor_of, facts_of, measure_one_by_one, totals, write_facts

    console, output = Terminal(), Path(config.output).expanduser()
    if output.exists() and not (config.overwrite and output.is_file()):
        raise SettingError(f"{output} exists already.\nNothing is replaced unasked. Choose another file.")
    with stages(console, "sa edit") as progress:
        model, tokenizer = loaded()
        asking = Asking(model, tokenizer, sources.facts_form != "plain")
        if config.format == "known":
            facts = facts_of(dataclasses.replace(sources, facts_known=True), asking)
            write_facts(facts, output)
            console.wrote(output, f"{len(facts)} facts that the model knows, in its own words")
            return
        facts = facts_of(sources, asking)
        outcomes = []
        for outcome in measure_one_by_one(editor_of(sources, asking, progress), facts):
            outcomes.append(outcome)
            progress("measuring facts", len(outcomes), len(facts))
    write_facts([outcome.fact for outcome in outcomes], output, [outcome.row() for outcome in outcomes])
    for name, (k, n) in totals(outcomes).items():
        _, low, high = rate(k, n).percent
        console.print(f"{name:12} {k}/{n} [{low:.0f}, {high:.0f}] %" if n else f"{name:12} no prompts", highlight=False)
    console.wrote(output, f"{len(outcomes)} facts, each written by itself, and what became of it")
