"""The closed form against dense inverses, and what follows from it."""

import pytest
import torch
from references.facts import memit, rome

from sa_lightning.errors import NothingToDoError
from sa_lightning.facts.closed_form import RIDGE, closed_form

D_FF, D_MODEL = 24, 10


@pytest.fixture
def parts():
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(200, D_FF, generator=draw, dtype=torch.float64) * torch.linspace(0.2, 3, D_FF)
    return {
        "w": torch.randn(D_MODEL, D_FF, generator=draw, dtype=torch.float64),
        "c": keys.T @ keys / len(keys),
        "k": torch.randn(3, D_FF, generator=draw, dtype=torch.float64),
        "v": torch.randn(3, D_MODEL, generator=draw, dtype=torch.float64),
    }


def ridged(c):
    return c + RIDGE * c.diagonal().mean() * torch.eye(len(c), dtype=c.dtype)


def change(parts, n, weight=0.0):
    steps = parts["v"][:n] - parts["k"][:n] @ parts["w"].T
    left, right = closed_form(parts["c"], parts["k"][:n], steps, weight)
    return left @ right


def test_one_fact_is_rome(parts):
    edited = parts["w"] + change(parts, 1)
    expected = rome(parts["w"], ridged(parts["c"]), parts["k"][0], parts["v"][0])
    torch.testing.assert_close(edited, expected)


def test_the_keys_are_mapped_to_the_values(parts):
    edited = parts["w"] + change(parts, 3)
    torch.testing.assert_close(parts["k"] @ edited.T, parts["v"])


def test_what_is_orthogonal_to_the_key_in_the_metric_of_the_text_is_not_moved(parts):
    u = torch.linalg.solve(ridged(parts["c"]), parts["k"][0])
    x = torch.randn(D_FF, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x -= (x @ u) / (u @ u) * u
    assert (x @ parts["k"][0]).abs() > 0.1  # it need not be orthogonal to the key itself
    torch.testing.assert_close(change(parts, 1) @ x, torch.zeros(D_MODEL, dtype=torch.float64), atol=1e-9, rtol=0)


def test_with_a_weight_it_is_memit(parts):
    inner = parts["k"] @ torch.linalg.solve(ridged(parts["c"]), parts["k"].T)
    share = 0.5 * float(inner.diagonal().mean())  # a weight is a share of the keys' own size
    expected = memit(parts["w"], ridged(parts["c"]), parts["k"], parts["v"], share)
    torch.testing.assert_close(parts["w"] + change(parts, 3, 0.5), expected)


def test_no_other_change_that_meets_the_fact_disturbs_the_text_less(parts):
    own = change(parts, 1)
    u = torch.randn(D_FF, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gap = parts["v"][0] - parts["w"] @ parts["k"][0]
    other = torch.outer(gap / (u @ parts["k"][0]), u)  # meets it, too
    disturbed = [torch.trace(one @ ridged(parts["c"]) @ one.T) for one in (own, other)]
    assert disturbed[0] < disturbed[1]


def test_two_values_for_one_key_are_refused(parts):
    keys = parts["k"][:1].repeat(2, 1)
    with pytest.raises(NothingToDoError, match="same key"):
        closed_form(parts["c"], keys, parts["v"][:2])
