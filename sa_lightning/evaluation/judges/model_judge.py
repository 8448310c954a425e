"""A judge that is a language model: a rubric, and somebody who answers questions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from sa_lightning.evaluation.degenerate import is_degenerate
from sa_lightning.evaluation.judges.answer_cache import Answers, key_of
from sa_lightning.evaluation.judges.endpoint import AllRefusedError
from sa_lightning.evaluation.judges.protocol import Progress
from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.judges.rubrics import Question, Rubric
from sa_lightning.evaluation.samples import JUDGED_KINDS, Outcome, Verdict
from sa_lightning.foreign import thoughts


class Respondent(Protocol):
    """Who answers questions: a model in this process (`local_model`) or a server (`endpoint`)."""

    identity: str
    """Says whose answers these are: answers of another are not taken for them."""

    markers: tuple[str, ...]
    """Special tokens of its own, which no reply may hold."""

    def check(self) -> None:
        """Refuse what cannot work, before anything is asked."""
        ...

    def answer(self, questions: Sequence[Question], new_tokens: int) -> Iterator[tuple[int, str | None]]:
        """Yield the index of a question and the answer to it, in any order; None where it could not be asked.

        The answer to a conversation is empty where it was cut short: what it has said so far is no verdict. Text is
        for models that were trained to answer at once, and may be cut.
        """
        ...


class ModelJudge:
    """Ask a model about replies by a rubric.

    What is asked about is what follows a reply's thought; one that never ends is unjudged, and not sent. Nor are
    degenerate replies: they are degenerate whatever a model says of them. Equal questions are asked once. An answer
    that cannot be read or breaks off amid thoughts, and a question that is too long, is unjudged.

    Args:
        rubric: What is asked and how answers are read.
        respondent: Who answers.
        answers: Those that are known already, and where new ones are kept.
    """

    def __init__(self, rubric: Rubric, respondent: Respondent, answers: Answers | None = None) -> None:
        self.rubric = rubric
        self.respondent = respondent
        self.answers = Answers() if answers is None else answers

    def __call__(self, replies: Sequence[Reply], progress: Progress | None = None) -> list[Verdict]:
        """Judge replies; the progress counts questions."""
        said = [thoughts.answer(reply.response) for reply in replies]
        replies = [reply._replace(response=text or "") for reply, text in zip(replies, said, strict=True)]
        verdicts = [
            Verdict(Outcome.UNJUDGED) if text is None else self._settled(reply)
            for reply, text in zip(replies, said, strict=True)
        ]
        unsettled = [index for index, verdict in enumerate(verdicts) if verdict is None]
        questions = [self._question(replies[index]) for index in unsettled]
        keys = [key_of(self.respondent.identity, question, self.rubric.new_tokens) for question in questions]
        self._ask(dict(zip(keys, questions, strict=True)), progress or (lambda done, total: None))
        read = {index: self._read(key, replies[index]) for index, key in zip(unsettled, keys, strict=True)}
        return [read[index] if verdict is None else verdict for index, verdict in enumerate(verdicts)]

    def _settled(self, reply: Reply) -> Verdict | None:
        """Return the verdict that needs no model, if there is one."""
        if is_degenerate(reply.prompt, reply.response):
            return Verdict(Outcome.DEGENERATE)
        kind = reply.doc.get("kind")
        is_outside = self.rubric.only_harmful and kind in JUDGED_KINDS and kind != "harmful"
        return Verdict(Outcome.UNJUDGED) if is_outside else None

    def _question(self, reply: Reply) -> Question:
        return self.rubric.question(reply.prompt, reply.response, self.respondent.markers)

    def _ask(self, questions: Mapping[str, Question], report: Progress) -> None:
        unknown = [key for key in questions if self.answers.find(key) is None]
        done = len(questions) - len(unknown)
        report(done, len(questions))
        if not unknown:
            return
        answers = self.respondent.answer([questions[key] for key in unknown], self.rubric.new_tokens)
        try:
            for count, (index, answer) in enumerate(answers, done + 1):
                if answer is not None:
                    self.answers.add(unknown[index], answer)
                report(count, len(questions))
        except AllRefusedError:
            if not done:  # of a run that goes on, only those that were refused before may be left
                raise

    def _read(self, key: str, reply: Reply) -> Verdict:
        said = self.answers.find(key)
        # A model that thinks aloud gives its verdict behind its thoughts.
        answer = thoughts.behind(said or "")
        reading = None if answer is None else self.rubric.read(answer)
        verdict = Verdict(Outcome.UNJUDGED) if reading is None else reading.verdict(reply.doc.get("kind"))
        return replace(verdict, said=said)
