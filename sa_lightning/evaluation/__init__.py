"""A model in, a report out.

The way: prompts (`datasets`) go through lm-eval (`harness`), a `judge` (or the phrases of
`refusal`) says what became of each (`samples`), `rates` and `scores` count, `intervals` and `comparisons`
say how sure that is, `report`, `page` and `charts` show.
"""

from sa_lightning.evaluation.harness.harness import evaluate, evaluate_lm
from sa_lightning.evaluation.harness.prompting import Prompting
from sa_lightning.evaluation.judges.registry import JUDGES, Judge, judge_samples, load_judge
from sa_lightning.evaluation.report.page import write_html
from sa_lightning.evaluation.report.results import results_json, write_results
from sa_lightning.evaluation.report.tables import markdown, table
from sa_lightning.evaluation.samples import Outcome, Sample, Score, Verdict
from sa_lightning.evaluation.statistics.comparisons import paired, paired_difference, paired_scores
from sa_lightning.evaluation.statistics.rates import rate, summarise
from sa_lightning.evaluation.statistics.verdicts import agreements

__all__ = [
    "JUDGES",
    "Judge",
    "Outcome",
    "Prompting",
    "Sample",
    "Score",
    "Verdict",
    "agreements",
    "evaluate",
    "evaluate_lm",
    "judge_samples",
    "load_judge",
    "markdown",
    "paired",
    "paired_difference",
    "paired_scores",
    "rate",
    "results_json",
    "summarise",
    "table",
    "write_html",
    "write_results",
]
