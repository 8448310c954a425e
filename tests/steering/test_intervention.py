import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.steering import add_and_rescale, authors_step

from sa_lightning.steering import INTERVENTIONS, add, add_keep_norm, add_keep_norm_adaptive, random_directions


def hidden(seed=0, dtype=torch.float32):
    return (5 * torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(seed))).to(dtype)


DIRECTION = random_directions((1, 16), 3)[0]


@given(seed=st.integers(0, 1000), strength=st.floats(-0.9, 0.9))
@settings(max_examples=50, deadline=None)
def test_closed_form_equals_add_then_rescale(seed, strength):
    x = hidden(seed)
    assert torch.allclose(
        add_keep_norm(x, DIRECTION, strength).double(), add_and_rescale(x, DIRECTION, strength), atol=1e-4
    )


@given(seed=st.integers(0, 1000), strength=st.floats(-0.9, 0.9))
@settings(max_examples=50, deadline=None)
def test_norm_is_kept(seed, strength):
    x = hidden(seed)
    for change in (add_keep_norm, add_keep_norm_adaptive):
        if change is add_keep_norm or abs(strength) < 0.45:
            assert torch.allclose(change(x, DIRECTION, strength).norm(dim=-1), x.norm(dim=-1), rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.12, 1.0, 3.0])
def test_adaptive_step_equals_the_authors_adapter(alpha):
    x = hidden(1)
    ours = add_keep_norm_adaptive(x, DIRECTION, 0.1 * alpha)
    assert torch.allclose(ours.double(), authors_step(x, -4.2 * DIRECTION, alpha), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", INTERVENTIONS)
def test_strength_zero_changes_nothing(name, dtype):
    x = hidden(2, dtype)
    assert torch.equal(INTERVENTIONS[name](x, DIRECTION, 0.0), x)


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_a_state_of_norm_zero_stays_zero(name):
    x = torch.zeros(1, 2, 16)
    assert torch.equal(INTERVENTIONS[name](x, DIRECTION, 0.3), x)


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_a_positive_step_leads_along_the_direction(name):
    x = hidden(4)
    moved = INTERVENTIONS[name](x, DIRECTION, 0.2)
    assert ((moved - x) @ DIRECTION > 0).all()


def test_a_state_parallel_to_the_direction_keeps_still_under_a_kept_norm():
    x = 3 * DIRECTION[None, None]
    assert torch.allclose(add_keep_norm(x, DIRECTION, 0.3), x, atol=1e-6)
    assert torch.allclose(add(x, DIRECTION, 0.3), 1.3 * x, atol=1e-6)


def test_half_precision_states_are_moved_in_float32():
    x = hidden(5, torch.bfloat16)
    exact = add_keep_norm(x.float(), DIRECTION, 0.12)
    assert torch.equal(add_keep_norm(x, DIRECTION, 0.12), exact.to(torch.bfloat16))
