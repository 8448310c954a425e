import pytest
import torch
from support.models import along, artifact_for, llama

from sa_lightning import SteeringArtifact, steer
from sa_lightning.steering import INTERVENTIONS, fit_directions, random_directions, shuffled
from sa_lightning.steering.directions.separability import cross_validated


def planted(count=40, layers=3, width=24, contrast=6.0, seed=0):
    """States of questions, with one direction that tells the sides apart and one that tells the answers apart."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(width, 2, generator=generator))[0].T
    question = torch.randn(count, layers, width, generator=generator)
    topic = 2 * torch.randn(2, count, layers, 1, generator=generator) * axes[1]
    noise = 0.1 * torch.randn(2, count, layers, width, generator=generator)
    both = question + topic + noise
    both[0] += contrast * axes[0]
    return both[0], both[1], axes


def reread(safe, unsafe, seed):
    pairs = shuffled(list(zip(safe, unsafe, strict=True)), seed)
    return torch.stack([first for first, _ in pairs]), torch.stack([other for _, other in pairs])


@pytest.mark.parametrize("count", [2, 7, 8])
def test_shuffled_pairs_hold_the_same_members_half_of_them_on_the_other_side(count):
    pairs = [(f"+{i}", f"-{i}") for i in range(count)]
    found = shuffled(pairs, 3)
    members = [member for pair in found for member in pair]
    assert len(found) == count - count % 2
    assert len(set(members)) == len(members)
    moved = sorted(pair[0][1:] for pair in found if pair[0][0] == "-")  # unsafe answers on the safe side
    assert len(moved) == count // 2
    # Where the unsafe answer changed sides, so did the safe one of the same pair, and no other.
    assert sorted(pair[1][1:] for pair in found if pair[1][0] == "+") == moved
    assert all(first[0] == other[0] and first[1:] != other[1:] for first, other in found)
    assert found == shuffled(pairs, 3)
    assert count == 2 or found != shuffled(pairs, 4)


@pytest.mark.parametrize("method", ["principal", "mean", "mean_plus_principal", "probe", "whitened"])
def test_what_tells_the_sides_apart_is_found_in_the_pairs_and_lost_in_shuffled_ones(method):
    safe, unsafe, axes = planted()
    found = fit_directions(safe, unsafe, method)
    assert (found @ axes[0]).min() > 0.8
    control = torch.stack([fit_directions(*reread(safe, unsafe, seed), method) for seed in range(6)])
    # By chance, a unit vector of 24 entries has about 0.2.
    assert (control @ axes[0]).abs().mean() < 0.35
    assert (control @ axes[0]).abs().max() < 0.75


def test_a_change_of_sides_alone_would_leave_the_principal_axis_as_it_is():
    """Why partners are exchanged, too: the control would be the method, or its negative."""
    safe, unsafe, _ = planted()
    other = torch.randperm(len(safe), generator=torch.Generator().manual_seed(0))[: len(safe) // 2]
    swapped_safe, swapped_unsafe = safe.clone(), unsafe.clone()
    swapped_safe[other], swapped_unsafe[other] = unsafe[other], safe[other]
    same = (fit_directions(safe, unsafe) * fit_directions(swapped_safe, swapped_unsafe)).sum(-1)
    assert same.abs().min() > 0.999
    exchanged = (fit_directions(safe, unsafe) * fit_directions(*reread(safe, unsafe, 0))).sum(-1)
    assert exchanged.abs().max() < 0.75


def test_means_of_shuffled_sides_are_those_after_the_change_of_sides_alone():
    safe, unsafe, _ = planted(count=8)
    pairs = list(zip(range(8), range(8), strict=True))
    kept = {first for first, other in shuffled([(("+", i), ("-", i)) for i, _ in pairs], 5) if first[0] == "+"}
    sign = torch.tensor([1.0 if ("+", i) in kept else -1.0 for i in range(8)])
    expected = (sign[:, None, None] * (safe - unsafe)).mean(0)
    first, other = reread(safe, unsafe, 5)
    assert torch.allclose((first - other).mean(0), expected, atol=1e-6)


def test_shuffled_sides_are_told_apart_no_better_and_no_worse_than_by_chance():
    areas = []
    for seed in range(8):
        safe, unsafe, _ = planted(count=30, seed=seed)
        assert cross_validated(safe, unsafe)[0].min() > 0.95
        areas.append(cross_validated(*reread(safe, unsafe, seed))[0])
    assert abs(float(torch.stack(areas).mean()) - 0.5) < 0.04
    found = shuffled([(("+", i), ("-", i)) for i in range(30)], 1)
    for place in (0, 3, 14, 21):
        (first, other), (twin, opposite) = found[place], found[place + 5 if place % 10 < 5 else place - 5]
        assert {first[1], other[1]} == {twin[1], opposite[1]}


def test_random_directions_are_those_of_validate_and_say_what_they_are(tmp_path):
    model = llama()
    artifact = artifact_for(model, statistics={})
    assert artifact.controls() == []
    drawn = artifact.randomised(3)
    expected = random_directions((3, 32), 3)
    assert all(torch.equal(drawn.directions["original"][layer], expected[layer]) for layer in range(3))
    assert artifact.control is None
    again = SteeringArtifact.from_pretrained(drawn.save_pretrained(tmp_path / "drawn"))
    assert again.control == {"kind": "random", "seed": 3}
    card = (tmp_path / "drawn" / "README.md").read_text()
    assert "**This is a control, not a method: its directions are drawn at random" in card
    assert "control]" in card.split("---")[1]
    plain = artifact.save_pretrained(tmp_path / "plain") / "README.md"
    assert "control" not in plain.read_text()


@pytest.mark.parametrize("intervention", [name for name, found in INTERVENTIONS.items() if found.neutral])
@pytest.mark.parametrize("strength", [0.0, {0: 0.0, 2: 0.0}])
def test_strength_0_changes_not_a_bit_and_says_that_it_is_a_control(intervention, strength):
    model = llama()
    ids = torch.randint(6, 20, (2, 9), generator=torch.Generator().manual_seed(0))
    before = model(ids).logits
    artifact = artifact_for(model, strength=strength, intervention=intervention)
    assert artifact.controls() == ["nothing is steered: strength 0"]
    with steer(model, artifact):
        assert torch.equal(model(ids).logits.view(torch.int32), before.view(torch.int32))
    moved = artifact_for(model, strength=0.3, intervention=intervention)
    assert moved.controls() == []
    assert moved.controls(strength) == ["nothing is steered: strength 0"]
    with steer(model, moved, strength=strength):
        assert torch.equal(model(ids).logits.view(torch.int32), before.view(torch.int32))
    with steer(model, moved):
        assert not torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("intervention", [name for name, found in INTERVENTIONS.items() if found.neutral])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_interventions_of_strength_0_return_the_states(intervention, dtype):
    generator = torch.Generator().manual_seed(1)
    hidden = (torch.randn(4, 5, 32, generator=generator) * 30).to(dtype)
    direction = random_directions((1, 32), 2)[0]
    assert torch.equal(INTERVENTIONS[intervention](hidden, along(intervention, direction), 0.0), hidden)


def test_clamping_to_0_is_no_neutral_value():
    assert artifact_for(llama(), strength=0.0, intervention="clamp").controls() == []
