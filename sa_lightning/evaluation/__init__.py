"""A model in, a report out.

The way: prompts (`tasks`) go through lm-eval (`harness`); judges (`judges`, or our own detector, `refusal`) say what
became of each reply (`samples`; `degenerate` ones apart); `statistics` count, and say how sure that is; `report` shows.
"""

from sa_lightning.evaluation.harness.harness import evaluate, evaluate_lm
from sa_lightning.evaluation.harness.prompting import Prompting
from sa_lightning.evaluation.judges.protocol import Judge
from sa_lightning.evaluation.judges.registry import JUDGES, judge_samples, load_judge
from sa_lightning.evaluation.report.page import write_html
from sa_lightning.evaluation.report.results import results_json, write_results
from sa_lightning.evaluation.report.tables import markdown, table
from sa_lightning.evaluation.samples import Outcome, Sample, Score, Verdict
from sa_lightning.evaluation.statistics.agreement import agreements
from sa_lightning.evaluation.statistics.comparisons import paired, paired_difference, paired_scores
from sa_lightning.evaluation.statistics.rates import rate, summarise

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
