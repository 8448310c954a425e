"""The report as one HTML page: it fetches nothing, runs nothing, and hides replies to harmful prompts unless asked."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa_lightning.evaluation.report import sections
from sa_lightning.evaluation.report.charts import COLOURS, MARKERS, PALE, lines
from sa_lightning.evaluation.report.headline import headline, named_arms, remarks
from sa_lightning.evaluation.report.results import COLUMNS, arrow, pooled
from sa_lightning.evaluation.report.vocabulary_chart import vocabulary_image
from sa_lightning.evaluation.samples import Outcome, Sample
from sa_lightning.evaluation.statistics.comparisons import PairedRow
from sa_lightning.evaluation.statistics.intervals import Clustered, Mean, Rate
from sa_lightning.evaluation.statistics.rates import Summary
from sa_lightning.files import write_whole
from sa_lightning.foreign.showing import shown

if TYPE_CHECKING:
    from sa_lightning.steering import GateRecord


def write_html(
    results: Mapping[str, Any],
    path: str | Path,
    *,
    samples: Mapping[str, Sequence[Sample]] | None = None,
    directions: Mapping[str, Sequence[float]] | None = None,
    gates: Mapping[str, "GateRecord"] | None = None,
    vocabulary: Mapping[str, Mapping[str, Any]] | None = None,
    settings: str | Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    show_replies: bool = False,
) -> None:
    """Write the report: one file, no network, no script.

    Args:
        results: From `results_json`.
        path: Where to write it, whole or not at all.
        samples: Arm to its samples, for the prompts in which arms differ; without them no prompt is shown.
        directions: Name to one number a block: the norm of the fitted direction there.
        gates: Name to the record of a gate.
        vocabulary: Weights to the segments of layers, and the words that their directions write.
        settings: What else made the numbers, shown as it is.
        notes: Sentences to show under the headline, such as a limit of the run.
        show_replies: Show replies to harmful prompts, folded, instead of saying that they are hidden; then only
            the file's owner may read it.
    """
    page = _render(
        _content(results, samples or {}, directions or {}, gates or {}, vocabulary or {}, settings, notes, show_replies)
    )
    write_whole(path, page, private=show_replies)


def _content(
    results: Mapping[str, Any],
    samples: Mapping[str, Sequence[Sample]],
    directions: Mapping[str, Sequence[float]],
    gates: Mapping[str, "GateRecord"],
    vocabulary: Mapping[str, Mapping[str, Any]],
    settings: str | Mapping[str, Any] | None,
    notes: Sequence[str],
    show_replies: bool,
) -> Summary:
    arms: Mapping[str, Any] = results["arms"]
    named = named_arms(results)
    controls = [name for name in arms if name not in named]
    shown = {name: arms[name] for name in named}
    norms = {name: [float(value) for value in values] for name, values in directions.items() if len(values)}
    command = results["command"]
    if settings and not isinstance(settings, str):
        settings = json.dumps(settings, indent=2, ensure_ascii=False)
    paired: Sequence[PairedRow] = results["paired"]
    return {
        "results": results,
        "command": command if isinstance(command, str) else " ".join(command),
        "settings": settings,
        "lead": headline(results),
        "notes": [*notes, *results.get("warnings", ()), *remarks(results)],
        "arms": arms,
        "named": shown,
        "controls": controls,
        "ranges": sections.ranges(arms, controls),
        "outcomes": sections.outcomes(arms),
        "replies": sections.replies(shown),
        "planes": sections.planes(arms, controls),
        "first_pairs": [row for row in paired if row.a == paired[0].a],
        "other_pairs": [row for row in paired if row.a != paired[0].a],
        "differing": sections.differing(samples, named, show_replies),
        "categories": sections.categories(shown),
        "xstest": sections.xstest_types(shown),
        "weighings": sections.weighings(shown),
        "tasks": sections.tasks(shown),
        "gates": sections.gates(gates),
        "vocabulary": sections.words(vocabulary),
        "vocabulary_image": vocabulary_image(vocabulary),
        "norms": norms,
        "norms_image": lines(norms, "block", "norm") if norms else "",
    }


def _render(content: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("sa_lightning.evaluation.report"),
        autoescape=True,
        finalize=_as_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"percent": _percent, "interval": _interval, "number": _number, "p": _p, "points": _points}
    pages.globals |= {
        "columns": {
            name: {"title": title, "better": better, "arrow": arrow(better)}
            for name, (title, better) in COLUMNS.items()
        },
        "groups": sections.GROUPS,
        "outcome_names": [outcome.value for outcome in Outcome],
        "colours": COLOURS,
        "markers": list(MARKERS.values()),
        "pale": PALE,
        "pooled": pooled,
    }
    return pages.get_template("report.html").render(content)


def _as_shown(value: Any) -> Any:
    """Text without what a page would obey rather than show, such as characters that turn the order of others."""
    return shown(value) if type(value) is str else value


def _percent(found: Rate | Mean | None) -> str:
    return f"{100 * found.rate:.1f} %" if found and found.rate is not None else "–"


def _interval(found: Rate | Mean | Clustered | None) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    return f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _points(found: PairedRow) -> str:
    """A difference of rates, in percentage points."""
    return f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
