"""Arms: what an artifact allows, and what is told apart where it has gates."""

import pytest

from sa_lightning.datamodules import ARMS, ARMS_APART, choose_arms
from sa_lightning.errors import DataError

FULL = {"has_artifact": True, "has_surgery": True, "has_gate": True}


def named(*arguments, **settings):
    return [arm.name for arm in choose_arms(*arguments, **settings)]


def test_without_being_asked_gates_do_what_they_were_fitted_for():
    chosen = choose_arms(None, **FULL)
    assert [arm.name for arm in chosen] == ["original", "steered", "edited", "edited+steered"]
    assert all(arm.gated for arm in chosen)


def test_gates_apart_gives_each_steered_arm_one_without_and_one_with_gates():
    chosen = {arm.name: arm for arm in choose_arms(None, **FULL, gates_apart=True)}
    assert list(chosen) == ["original", "steered", "gated", "edited", "edited+steered", "edited+gated"]
    assert {name for name, arm in chosen.items() if arm.steered and not arm.gated} == {"steered", "edited+steered"}
    assert named(None, **(FULL | {"has_surgery": False}), gates_apart=True) == ["original", "steered", "gated"]
    assert named(["gated", "original"], **FULL, gates_apart=True) == ["original", "gated"]


def test_names_that_both_sets_have_mean_the_same_weights():
    apart = {arm.name: arm for arm in ARMS_APART}
    assert all((apart[arm.name].edited, apart[arm.name].steered) == (arm.edited, arm.steered) for arm in ARMS)


def test_gates_apart_without_a_gate_is_refused_and_gated_is_unknown_without_it():
    with pytest.raises(DataError, match="there is no artifact with a gate"):
        choose_arms(None, **(FULL | {"has_gate": False}), gates_apart=True)
    with pytest.raises(DataError, match="There is no arm `gated` here"):
        choose_arms(["gated"], **FULL)
