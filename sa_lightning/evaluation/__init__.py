"""A model in, a report out.

The way: prompts (`datasets`) go through lm-eval (`harness`), a `judge` (or the phrases of
`refusal`) says what became of each (`samples`), `rates` and `scores` count, `intervals` and `comparisons`
say how sure that is, `report`, `page` and `charts` show.
"""

from sa_lightning.evaluation.comparisons import paired, paired_difference, paired_scores
from sa_lightning.evaluation.harness import evaluate, evaluate_lm
from sa_lightning.evaluation.judge import JUDGES, Judge, judge_samples, load_judge
from sa_lightning.evaluation.page import write_html
from sa_lightning.evaluation.prompting import Prompting
from sa_lightning.evaluation.rates import rate, summarise
from sa_lightning.evaluation.report import results_json, write_results
from sa_lightning.evaluation.samples import Outcome, Sample, Score, Verdict
from sa_lightning.evaluation.tables import markdown, table
from sa_lightning.evaluation.verdicts import agreements

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
