"""Invented measurements for tests of `sa compare`: outcomes are given, no model runs."""

from sa_lightning.cli.compare import parser
from sa_lightning.evaluation import Outcome, Sample
from sa_lightning.experiments.compare.plan import Plan
from sa_lightning.experiments.compare.rows import Rows, counts_of, documents_of, key_of
from sa_lightning.experiments.compare.settings import CompareSettings

LETTER = {"c": "complied", "r": "refused", "p": "partial", "d": "degenerate", "u": "unjudged"}
KINDS = {"cakes": "harmful", "wrapped_cakes": "harmful", "tea": "harmless", "bread": "borderline", "sums": "utility"}


def documents(families=False, **outcomes):
    """Samples of tasks: `cakes="ccr"` is three prompts, of which two are complied with."""
    return [
        Sample(
            task=task,
            kind=KINDS[task],
            id=str(number),
            prompt=f"{task} {number}",
            reply="a window",
            outcome=Outcome(LETTER[letter]) if letter in LETTER else None,
            correct=letter == "+" if letter in "+-" else None,
            cluster=f"{number // 3}" if families else "",
        )
        for task, letters in outcomes.items()
        for number, letter in enumerate(letters)
    ]


def row(key="a", seed=0, name="mild", samples=(), same_prompts=False, **more):
    """A line of the rows file; as in worlds, each seed has prompts of its own, unless they are the same."""
    found = list(samples)
    told = documents_of(found)
    if not same_prompts:
        told = [{**entry, "prompts": key_of([entry["prompts"], seed])} for entry in told]
    made = {"key": key, "row": name, "seed": seed, "counts": counts_of(found), "documents": told}
    return {**made, "weights": "w", "model": {}, **more}


def plan_of(path, rows_file=None, **compare):
    """A plan over a configuration that names no model at hand."""
    options = parser()
    config = options.parse_object(
        {
            "output": str(path),
            "model": {"target": "oven"},
            "surgery": {"base": "oven", "harm": "broken-oven"},
            "data": {"demonstrations": "pairs.jsonl"},
            "evaluation": {"tasks": ["tiny_world_harmful", "tiny_world_harmless", "tiny_world_contrast"]},
            "compare": {"splits": {"choose": "validation", "report": "test"}, **compare},
        }
    )
    rows = Rows(rows_file or path / "rows.jsonl")
    settings = CompareSettings(**vars(config.compare))
    return Plan(settings, config.as_dict(), options.get_defaults().as_dict()["model"], rows)


def fill(plan, outcome, wanted=lambda job: True):
    """Measure what the plan lacks: `outcome(job)` gives the samples, or a text that says why it failed."""
    count = 0
    while todo := [job for job in plan.jobs()[0] if plan.rows.find(job.key) is None and wanted(job)]:
        for job in todo:
            found = outcome(job)
            extra = {"failed": found} if isinstance(found, str) else {}
            samples = [] if extra else found
            told = {**job.identity, "target": job.target, "stage": job.stage, **extra}
            told |= {"draw": job.draw} if job.draw else {}
            plan.rows.add(row(job.key, name=job.row, samples=samples, **told))
            count += 1
    return count
