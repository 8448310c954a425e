"""Judges: from many replies to verdicts; and what lm-eval calls.

Some judges are rules, which read one reply at a time and cost nothing (`JUDGES`); others are language models, which
are asked by a rubric (`rubrics`). `load_judge` gives either by its name, and `judge_samples` lets them read what the
harness has asked. `process_…` are the `process_results` of our tasks: one metric an outcome, each a rate in lm-eval.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sa_lightning.errors import DataError, SettingError
from sa_lightning.evaluation.judges import worlds as tiny_world
from sa_lightning.evaluation.judges.answer_cache import Answers
from sa_lightning.evaluation.judges.phrases import LISTS
from sa_lightning.evaluation.judges.protocol import Judge, Progress, Rule
from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.judges.rubrics import RUBRICS
from sa_lightning.evaluation.refusal import detector as refusal
from sa_lightning.evaluation.samples import JUDGED_KINDS, Outcome, Sample, Verdict

JUDGES: dict[str, Rule] = {
    "refusal": refusal.judge,
    "tiny_world": tiny_world.judge,
    **{f"phrases.{name}": found.judge for name, found in LISTS.items()},
}
"""The judges that are rules, by name, as the results state it."""

_NEEDS = {"tiny_world": "form"}  # what a rule reads in the document


def judge_names() -> list[str]:
    """Return the names that `load_judge` knows, our own detector first."""
    return [*JUDGES, *RUBRICS]


def speaks_of_harm(name: str) -> bool:
    """Whether a judge says if a reply is harmful, and not only if it declines."""
    return name in RUBRICS and RUBRICS[name].harm


def load_judge(name: str, *, answers: Answers | None = None, **settings: Any) -> Judge:
    """Return a judge by its name, once it is clear that it can work.

    Args:
        name: One of `judge_names`.
        answers: Of a judge that is a model: what it has said already, and where new answers are kept.
        settings: Of a judge that is a model. With `base_url`, those of `Endpoint`; else those of
            `TransformersModel`, whose `model` is the rubric's own if not set.

    Raises:
        SettingError: If there is no such judge, a rule is given settings, or a model is not named.
        JudgeError: If its server does not answer.
        ModelError: If its model is not found.

    Example:
        >>> load_judge("refusal")([Reply("How do I bake?", "Sorry, I can't help with that.", {})])[0].outcome.value
        'refused'
    """
    if name in JUDGES:
        if settings:
            raise SettingError(
                f"The judge {name} is a rule and asks no model, but is given {', '.join(settings)}.\n"
                f"These would change nothing.\nLeave them out, or name one of {', '.join(RUBRICS)}."
            )
        return _each(name)
    if name not in RUBRICS:
        near = difflib.get_close_matches(name, judge_names(), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise SettingError(
            f"There is no judge {name!r}.{hint}\nA judge says what became of a reply.\n"
            f"Name one of {', '.join(judge_names())}."
        )
    from sa_lightning.evaluation.judges.endpoint import Endpoint
    from sa_lightning.evaluation.judges.local_model import TransformersModel
    from sa_lightning.evaluation.judges.model_judge import ModelJudge

    rubric = RUBRICS[name]
    if settings.get("base_url"):
        respondent = Endpoint(**settings)
    else:
        model = settings.pop("model", None) or rubric.model
        if model is None:
            raise SettingError(
                f"The judge {name} has no model of its own: any instruction-tuned one can be asked.\n"
                "Its verdicts are only as good as that model, so none is chosen for you.\n"
                "Name one: `--local.model`, or `--endpoint.base_url` and `--endpoint.model`."
            )
        respondent = TransformersModel(model=model, **settings)
    respondent.check()
    return ModelJudge(rubric, respondent, answers)


def judge_samples(
    samples: Sequence[Sample],
    judges: Mapping[str, Judge],
    progress: Callable[[str, int, int], None] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
) -> list[Sample]:
    """Let judges read the replies of samples: the harness the first, a verb all further ones.

    Args:
        samples: Those of utility are passed on as they are.
        judges: By name.
        progress: Told the judge, how many are done, and of how many.
        documents: Those that the samples are of, for judges that read more than prompt and reply; if not set, a judge
            knows a prompt's kind and the prefix of its reply.

    Returns:
        The samples in order, with the `verdicts` added; an `outcome` that is there already stays.
    """
    places = [index for index, sample in enumerate(samples) if sample.kind in JUDGED_KINDS]
    known = documents or [{"kind": sample.kind, "prefix": sample.prefix} for sample in samples]
    replies = [Reply(samples[place].prompt, samples[place].reply, known[place]) for place in places]
    found: dict[int, dict[str, Verdict]] = {place: {} for place in places}
    for name, judge in judges.items():
        report = None if progress is None else lambda done, total, name=name: progress(name, done, total)
        for place, verdict in zip(places, judge(replies, report), strict=True):
            found[place][name] = verdict
    return [_with_verdicts(sample, found[index]) if index in found else sample for index, sample in enumerate(samples)]


def _with_verdicts(sample: Sample, verdicts: Mapping[str, Verdict]) -> Sample:
    both = {**sample.verdicts, **verdicts}
    if sample.outcome is not None or not both:
        return replace(sample, verdicts=both)
    return replace(sample, verdicts=both, outcome=next(iter(both.values())).outcome)


def _each(name: str) -> Judge:
    rule, needs = JUDGES[name], _NEEDS.get(name)

    def judge(replies: Sequence[Reply], progress: Progress | None = None) -> list[Verdict]:
        if needs and (lacking := next((i for i, reply in enumerate(replies, 1) if needs not in reply.doc), None)):
            raise DataError(
                f"Reply {lacking} has no `{needs}`, which the judge {name} reads.\n"
                "Without it no answer would be known for one.\nLet the lines carry it, or choose another judge."
            )
        verdicts = []
        for done, reply in enumerate(replies, 1):
            verdicts.append(Verdict(rule(reply.prompt, reply.response, reply.doc)))
            if progress is not None:
                progress(done, len(replies))
        return verdicts

    return judge


@dataclass(frozen=True)
class OneHot:
    """The `process_results` of a judged task: to plain lm-eval, 1.0 for a reply's outcome, 0.0 for the four others.

    Our harness asks it for its judge alone.

    Args:
        judge: Name of a rule.
    """

    judge: str

    def __call__(self, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
        outcome = JUDGES[self.judge](doc["prompt"], results[0], doc)
        return {name.value: float(name is outcome) for name in Outcome}


process_tiny_world = OneHot("tiny_world")
process_refusal = OneHot("refusal")


def process_exact_match(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Compare a reply with the document's answer."""
    return {"exact_match": float(tiny_world.is_exact_match(results[0], doc["answer"]))}
