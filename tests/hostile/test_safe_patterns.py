"""Regular expressions out of files: what could run for hours is refused by its form."""

import random
import re
import time

import pytest

from sa_lightning.foreign.patterns import why_refused

USED = (
    r"#### (\-?[0-9\.\,]+)",  # filters of lm-eval's tasks
    r"(-?[$0-9.,]{2,})|(-?[0-9]+)",
    r"(?<=The answer is )(.*)(?=.)",
    r"```(?:[Pp]ython|[Pp]y)?\s*\n(.*?)\n```",
    r".*\.layers\.\d+\.(q_proj|v_proj)$",  # modules of adapters
    r"^(?!.*visual).*\.(q_proj|k_proj|v_proj|o_proj)",
    r"(foo|bar)*x",
    r"(?:\d{1,3},){2}\d+",
)
REFUSED = (
    r"(([a-z_.0-9])+)+!",
    r"(a|ab)*c",
    r"(a?)*b",
    r"(?:){4294967290}",
    r"((a{1000}){1000}){1000}",
    r"((a{1,9}){1,9}){1,9}!",
    r".*.*.*.*x",
    r"(?=(a+)+$)b",
    r"(",
    "a" * 2000,
    None,
)


@pytest.mark.parametrize("pattern", USED)
def test_patterns_that_people_use_are_taken(pattern):
    assert why_refused(pattern) is None


@pytest.mark.parametrize("pattern", REFUSED, ids=repr)
def test_patterns_that_could_run_for_hours_are_refused(pattern):
    assert why_refused(pattern)


def test_a_pattern_that_is_taken_is_fast_on_lines_made_to_slow_it_down():
    random.seed(0)
    taken = 0
    for _ in range(1500):
        pattern = _random(3)
        if why_refused(pattern) is None:
            taken += 1
            began = time.process_time()
            for text in ("a" * 60 + "!", "ab" * 30 + "!", "a.b" * 20 + "!"):
                re.fullmatch(pattern, text)
            assert time.process_time() - began < 1.0, pattern
    assert taken > 300


def _random(depth):
    kind = random.randrange(6 if depth else 2)
    if kind < 2:
        return random.choice(["a", "b", ".", r"\w", "[ab]", "[^!]", "ab", "!"])
    if kind == 2:
        return _random(depth - 1) + _random(depth - 1)
    if kind == 3:
        return f"({_random(depth - 1)}|{_random(depth - 1)})"
    return f"({_random(depth - 1)}){random.choice(['*', '+', '?', '{2}', '{1,9}', '*?', '{0,3}'])}"
