import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.steering import add_and_rescale, authors_step, removed
from support.models import along

from sa_lightning.errors import SettingError
from sa_lightning.steering import (
    INTERVENTIONS,
    Step,
    ablate,
    add,
    add_absolute,
    add_keep_norm,
    add_keep_norm_adaptive,
    check_strength,
    clamp,
    random_directions,
)

NEUTRAL = [name for name, each in INTERVENTIONS.items() if each.neutral]
STEPS = [name for name in INTERVENTIONS if name.startswith("add")]
RELATIVE = [name for name in STEPS if name != "add_absolute"]


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
        if INTERVENTIONS[change.__name__].allows(strength):
            assert torch.allclose(change(x, DIRECTION, strength).norm(dim=-1), x.norm(dim=-1), rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.12, 1.0, 3.0])
def test_adaptive_step_equals_the_authors_adapter(alpha):
    x = hidden(1)
    ours = add_keep_norm_adaptive(x, DIRECTION, 0.1 * alpha)
    assert torch.allclose(ours.double(), authors_step(x, -4.2 * DIRECTION, alpha), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NEUTRAL)
def test_strength_zero_changes_nothing(name, dtype):
    x = hidden(2, dtype)
    assert torch.equal(INTERVENTIONS[name](x, along(name, DIRECTION), 0.0), x)


@pytest.mark.parametrize("name", [*RELATIVE, "ablate"])
def test_a_state_of_norm_zero_stays_zero(name):
    x = torch.zeros(1, 2, 16)
    assert torch.equal(INTERVENTIONS[name](x, along(name, DIRECTION), 0.3), x)


@pytest.mark.parametrize("name", STEPS)
def test_a_positive_step_leads_along_the_direction(name):
    x = hidden(4)
    side = (x @ DIRECTION).sign() if name == "add_mapped" else 1.0  # each state goes on to its own side
    moved = INTERVENTIONS[name](x, along(name, DIRECTION), 0.2)
    assert ((moved - x) @ DIRECTION * side > 0).all()


def test_a_state_parallel_to_the_direction_keeps_still_under_a_kept_norm():
    x = 3 * DIRECTION[None, None]
    assert torch.allclose(add_keep_norm(x, DIRECTION, 0.3), x, atol=1e-6)
    assert torch.allclose(add(x, DIRECTION, 0.3), 1.3 * x, atol=1e-6)


def test_half_precision_states_are_moved_in_float32():
    x = hidden(5, torch.bfloat16)
    exact = add_keep_norm(x.float(), DIRECTION, 0.12)
    assert torch.equal(add_keep_norm(x, DIRECTION, 0.12), exact.to(torch.bfloat16))


def test_an_absolute_step_has_the_same_length_at_every_token():
    x = hidden(6)
    assert torch.allclose(add_absolute(x, DIRECTION, 3.0) - x, 3.0 * DIRECTION.expand_as(x), atol=1e-5)


@given(seed=st.integers(0, 1000), fraction=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_ablation_takes_a_fraction_of_the_component_away(seed, fraction):
    x = hidden(seed)
    assert torch.allclose(ablate(x, DIRECTION, fraction).double(), removed(x, DIRECTION, fraction), atol=1e-4)


def test_ablation_twice_is_once_and_its_sign_does_not_matter():
    x = hidden(7)
    once = ablate(x, DIRECTION, 1.0)
    assert (once @ DIRECTION).abs().max() < 1e-5
    assert torch.allclose(ablate(once, DIRECTION, 1.0), once, atol=1e-5)
    assert torch.allclose(ablate(x, -DIRECTION, 1.0), once, atol=1e-6)


def test_clamping_sets_the_coordinate_and_nothing_else():
    x = hidden(8)
    moved = clamp(x, DIRECTION, -2.5)
    assert torch.allclose(moved @ DIRECTION, torch.full(x.shape[:-1], -2.5), atol=1e-5)
    assert torch.allclose(ablate(moved, DIRECTION, 1.0), ablate(x, DIRECTION, 1.0), atol=1e-5)
    assert torch.equal(clamp(x, DIRECTION, 0.0), ablate(x, DIRECTION, 1.0))


@pytest.mark.parametrize("name", INTERVENTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_with_buffers_does_what_the_function_does(name, dtype):
    x, step = hidden(9, dtype), Step(name, along(name, DIRECTION).to(torch.bfloat16), 0.3, torch.device("cpu"))
    assert torch.equal(step(x), INTERVENTIONS[name](x, along(name, DIRECTION).to(torch.bfloat16), 0.3))
    assert {buffer.dtype for buffer in step.buffers()} == {torch.float32}
    assert step.state_dict() == {}


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        ("add", 1.0),
        ("add_keep_norm", -1.0),
        ("add_keep_norm_adaptive", 0.5),
        ("ablate", 1.1),
        ("ablate", -0.1),
        ("clamp", float("nan")),
    ],
)
def test_strengths_that_make_no_sense_are_refused_with_their_unit(name, strength):
    with pytest.raises(SettingError, match=f"`{name}` takes a"):
        check_strength(strength, name)
    with pytest.raises(SettingError, match="of layer 3"):
        check_strength({2: 0.4, 3: strength}, name)


@pytest.mark.parametrize(("name", "largest"), [("add_keep_norm", 0.999999), ("add_keep_norm_adaptive", 0.4999999)])
def test_the_longest_step_at_an_opposite_state_leaves_nothing_and_blows_nothing_up(name, largest):
    moved = INTERVENTIONS[name](-5 * DIRECTION[None], DIRECTION, largest)
    assert moved.isfinite().all()
    assert float(moved.norm()) < 50


def test_bounds_are_those_of_the_unit():
    check_strength(1.0, "ablate")
    check_strength(40.0, "add_absolute")
    check_strength({0: -3.0}, "clamp")


@pytest.mark.parametrize("name", RELATIVE)
@given(seed=st.integers(0, 1000), strength=st.floats(-0.9, 0.45))
@settings(max_examples=20, deadline=None)
def test_a_fraction_of_the_typical_norm_is_that_of_the_own_norm_where_both_are_one(name, seed, strength):
    if name == "add_mapped":
        return
    x = torch.nn.functional.normalize(hidden(seed), dim=-1) * 3.0
    own, typical = (INTERVENTIONS[name](x, DIRECTION, strength, *norm) for norm in ((), (3.0,)))
    assert torch.allclose(own, typical, atol=1e-5)


def test_a_step_in_typical_norms_has_one_length_for_all_states():
    x = hidden(2)
    moved = (add(x, DIRECTION, 0.2, 7.0) - x).norm(dim=-1)
    assert torch.allclose(moved, torch.full_like(moved, 1.4), rtol=1e-4)
    assert torch.allclose(add_keep_norm(x, DIRECTION, 0.2, 7.0).norm(dim=-1), x.norm(dim=-1), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", INTERVENTIONS)
def test_states_beyond_the_limit_keep_every_bit_and_the_others_move_as_without(name, dtype):
    x = hidden(1, dtype)
    x[0, 0] *= 100
    x[1, 3] = 0
    step, free = (Step(name, along(name, DIRECTION), 0.3, torch.device("cpu"), 9.0, limit) for limit in (150.0, None))
    assert torch.equal(step(x)[0, 0], x[0, 0])
    if dtype == torch.float32:  # in half precision a step of fixed length is rounded away
        assert not torch.equal(free(x)[0, 0], x[0, 0])
    others = torch.ones(2, 7, dtype=torch.bool)
    others[0, 0] = False
    assert torch.equal(step(x)[others], free(x)[others])
    assert torch.isfinite(step(x)).all()


def test_a_weight_for_each_row_is_a_factor_of_the_strength():
    x = hidden(4)
    step = Step("add", DIRECTION, 0.3, torch.device("cpu"), 9.0, 150.0)
    weights = torch.tensor([0.5, -1.0]).view(2, 1, 1)
    expected = torch.stack([add(x[0], DIRECTION, 0.15, 9.0), add(x[1], DIRECTION, -0.3, 9.0)])
    assert torch.allclose(step(x, weights), expected, atol=1e-6)
