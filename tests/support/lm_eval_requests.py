"""Requests as lm-eval makes them, a model that answers them in memory, and what ran."""

import random

from lm_eval.api.instance import Instance

from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from support.models import WORDS, llama, word_tokenizer

GREEDY = {"until": [], "do_sample": False, "max_gen_toks": 8}


def texts(count, seed=0, most=12):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, most))) for _ in range(count)]


def instances(kind, arguments):
    return [Instance(kind, {}, args, 0, metadata=("task", number, 1)) for number, args in enumerate(arguments)]


def generation(count=13, **changes):
    return instances("generate_until", [(text, {**GREEDY, **changes}) for text in texts(count)])


def choices(count=7):
    """Questions of different length; the choices of some are one word, those of others several."""
    asked = texts(count, seed=1)
    answers = [[" yes", " no", " cake"], [" yes .", " no , then", " a cake ."]]
    return instances("loglikelihood", [(text, answer) for i, text in enumerate(asked) for answer in answers[i % 2]])


def rolling(count=11):
    return instances("loglikelihood_rolling", [(text,) for text in texts(count, seed=2, most=90)])


REQUESTS = {"generate_until": generation, "loglikelihood": choices, "loglikelihood_rolling": rolling}


def ours(model=None, **settings):
    return InMemoryLM(model or llama(), word_tokenizer(), **settings)


def forwards(model):
    """Rows of every forward that begins a sequence."""
    rows = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, args, out: rows.append(tuple(args[0].shape)) if args[0].shape[1] > 1 else None
    )
    return rows


class Killed(BaseException):
    pass


def killed_after(model, count):
    """Stop the process, so to speak, when another batch begins."""
    rows = forwards(model)
    model.get_input_embeddings().register_forward_hook(lambda *_: (_ for _ in ()).throw(Killed) if len(rows) > count
                                                       else None)  # fmt: skip
    return model
