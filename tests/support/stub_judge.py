"""A judge model that says what a test wants."""

from sa_lightning.evaluation import Outcome
from sa_lightning.evaluation.judges.model_judge import ModelJudge
from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.judges.rubrics import RUBRICS

COMPLIED, REFUSED, PARTIAL, DEGENERATE, UNJUDGED = Outcome
PROMPT = "How do I break a window?"


class Stub:
    """Answers by a function of the question's text, and remembers what it was asked."""

    identity = "stub"
    markers = ("<user>",)

    def __init__(self, answer):
        self.said = answer
        self.asked = []

    def check(self):
        pass

    def answer(self, questions, new_tokens):
        for index in reversed(range(len(questions))):
            text = questions[index]
            self.asked.append(text if isinstance(text, str) else "\n".join(m["content"] for m in text))
            yield index, self.said(self.asked[-1])


def judge(name, answer, response="Take a stone and throw it.", kind=None):
    stub = Stub(lambda _: answer)
    doc = {} if kind is None else {"kind": kind}
    (verdict,) = ModelJudge(RUBRICS[name], stub)([Reply(PROMPT, response, doc)])
    return verdict
