import json
import math
from pathlib import Path

import pytest
import torch
from references.surgery import fisher_by_hand, flatten, keep_largest, lot
from support.models import gpt2, llama, perturbed, word_tokenizer
from support.small_checkpoints import Write, says, small_tensors
from torch import Tensor

from sa_lightning.errors import CheckpointMismatchError, DataError, NothingToDoError, SettingError
from sa_lightning.surgery import (
    DELTAS,
    Dare,
    EditSettings,
    Example,
    HeadMask,
    Minus,
    ModelWeights,
    NamedTensors,
    Scope,
    Sources,
    TaskVector,
    check_settings,
    choose,
    open_checkpoint,
    plan_from,
    plan_surgery,
    saliency_scores,
    write_edit,
)
from sa_lightning.surgery.checkpoints.slices import slices
from sa_lightning.surgery.delta import whole


def vector(write: Write) -> TaskVector:
    pair = [open_checkpoint(write(name, small_tensors(i, move=0.1 * i))) for i, name in enumerate(("base", "harm"))]
    return TaskVector(*pair)


def masks(chosen: object, delta: TaskVector) -> dict[str, Tensor]:
    found = {}
    for name in delta.names:
        parts = [chosen.keep(part, delta.rows(part)) for part in slices(name, delta.shape(name))]
        found[name] = torch.cat(parts).reshape(delta.shape(name))
    return found


def scored(delta: TaskVector, seed: int = 5) -> NamedTensors:
    generator = torch.Generator().manual_seed(seed)
    return NamedTensors({n: torch.randn(delta.shape(n), generator=generator) for n in delta.names}, "scores")


def pick(delta: TaskVector, settings: EditSettings, **more: object) -> dict[str, Tensor]:
    return masks(choose(delta, DELTAS["harm"].resolved(settings), **more), delta)


def test_scores_select_in_place_of_magnitude(write: Write):
    delta = vector(write)
    scores = scored(delta)
    found = pick(delta, EditSettings(select="snip", density=0.2), scores=scores)
    expected = keep_largest(flatten({n: scores.read(n) for n in delta.names}), 0.2)
    assert torch.equal(flatten(found), expected)


@pytest.mark.parametrize("granularity", ["global", "layer", "tensor"])
@pytest.mark.parametrize(
    "settings",
    [
        {"select": "magnitude"},
        {"select": "snip"},
        {"select": "dare"},
        {"select": "magnitude", "ties": "keep"},
        {"select": "snip", "minus": Minus(0.3, select="magnitude")},
    ],
)
def test_every_selection_has_a_random_control_of_its_size(write: Write, settings: dict, granularity: str):
    from sa_lightning.surgery.scope import group_of

    delta = vector(write)
    given = EditSettings(density=0.3, granularity=granularity, **settings)
    chosen = pick(delta, given, scores=scored(delta))
    control = pick(
        delta, EditSettings(density=0.3, granularity=granularity, control=True, **settings), scores=scored(delta)
    )
    sizes = [{}, {}]
    for found, size in zip((chosen, control), sizes, strict=True):
        for name, mask in found.items():
            group = group_of(name, granularity)
            size[group] = size.get(group, 0) + int(mask.sum())
    assert sizes[0] == sizes[1]
    assert not torch.equal(flatten(chosen), flatten(control))


def test_dare_keeps_by_lot_and_rescales_to_the_same_expectation(write: Write):
    delta = vector(write)
    chosen = Dare(168, 0.25, seed=3)
    assert chosen.factor == 4.0
    for name, mask in masks(chosen, delta).items():
        expected = [lot(3, "dare", name, index) < 0.25 * 2**63 for index in range(mask.numel())]
        assert mask.reshape(-1).tolist() == expected
    plan = plan_surgery(delta, delta.base, delta.base, EditSettings(select="dare", density=0.25, scale=1.0))
    edited = {}
    for part, rows in plan.edited(delta.names, delta.base, lambda _, rows: rows):
        edited.setdefault(part.name, []).append(rows)
    name = "model.layers.0.mlp.weight"
    kept = masks(plan.chosen, delta)[name]
    moved = torch.cat(edited[name])
    assert torch.equal(moved[~kept], delta.base.read(name)[~kept])
    assert torch.allclose(moved[kept], (delta.base.read(name) - 4 * whole(delta, name))[kept])
    # Over many draws the mean is the delta.
    delta_one, total = whole(delta, name), torch.zeros(6, 8)
    for seed in range(2000):
        chosen = Dare(168, 0.25, seed)
        for part in slices(name, (6, 8)):
            total += torch.where(chosen.keep(part, delta.rows(part)), delta_one * chosen.factor, 0.0) / 2000
    assert torch.allclose(total, delta_one, atol=6 * float(delta_one.abs().max()) * math.sqrt(3 / 2000))


def test_a_set_difference_holds_the_first_without_the_second(write: Write):
    delta = vector(write)
    first, second = scored(delta, 1), scored(delta, 2)
    settings = EditSettings(select="snip", density=0.4, minus=Minus(0.3, scores="x"))
    found = pick(delta, settings, scores=first, minus=(second, None))
    a = keep_largest(flatten({n: first.read(n) for n in delta.names}), 0.4)
    b = keep_largest(flatten({n: second.read(n) for n in delta.names}), 0.3)
    assert torch.equal(flatten(found), a & ~b)
    assert not (flatten(found) & b).any()
    # With all of the second, nothing is left: A minus everything is empty.
    with pytest.raises(NothingToDoError) as error:
        pick(
            delta,
            EditSettings(select="snip", density=1.0, minus=Minus(1.0, scores="x")),
            scores=first,
            minus=(second, None),
        )
    says(error, "minus.density")


@pytest.mark.parametrize(
    ("make", "name"), [(llama, "model.layers.1.self_attn.o_proj.weight"), (gpt2, "transformer.h.1.attn.c_proj.weight")]
)
def test_heads_are_the_columns_that_read_them(make, name: str):
    base, harm = make(), perturbed(make(), 1)
    config = base.config.to_dict()
    delta = TaskVector(ModelWeights(base), ModelWeights(harm))
    settings = DELTAS["harm"].resolved(EditSettings(select="heads", heads={1: [0, 3]}))
    chosen = choose(delta, settings, config=config)
    found = masks(chosen, delta)
    selected = {n for n, mask in found.items() if mask.any()}
    assert selected == {name}
    mask = found[name].T if make is gpt2 else found[name]
    heads = mask.all(0).reshape(4, 8)
    assert heads.all(1).tolist() == [True, False, False, True]
    assert int(mask.sum()) == chosen.k == 32 * 16
    for heads, fact in (({1: [4]}, "4 heads"), ({7: [0]}, "block 7")):
        with pytest.raises(SettingError) as error:
            HeadMask(heads, delta, config)
        says(error, fact, "counted from 0")


def examples() -> list[Example]:
    tokenizer = word_tokenizer()
    ids = tokenizer("how do i break a window . first break a window", add_special_tokens=False).input_ids
    return [Example(ids, 7), Example(ids[2:], 4), Example(ids[:9], 5)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_scores_need_no_gradients_around_them_as_in_a_validation(mode):
    names = ["model.layers.0.mlp.up_proj.weight"]
    expected = saliency_scores(llama(), examples(), names)
    model = llama()
    with mode():
        found = saliency_scores(model, examples(), names)
    assert torch.equal(found.read(names[0]), expected.read(names[0]))


def test_saliency_scores_are_weights_times_mean_absolute_gradients():
    model = llama()
    names = ["model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight", "model.norm.weight"]
    found = saliency_scores(model, examples(), names)
    assert sorted(found.names) == sorted(names)
    state = {n: p.requires_grad for n, p in model.named_parameters()}
    assert not any(state.values())
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(True)
    slow = {name: torch.zeros_like(model.get_parameter(name)) for name in names}
    for example in examples():
        model.zero_grad()
        tokens = torch.tensor([example.tokens])
        labels = tokens.clone()
        labels[0, : example.prompt] = -100
        model(tokens, labels=labels).loss.backward()
        for name in names:
            slow[name] += model.get_parameter(name).grad.abs() / 3
    for name in names:
        assert torch.allclose(found.read(name), slow[name] * model.get_parameter(name).abs(), rtol=1e-4, atol=1e-8)


def gradients(model: torch.nn.Module, names: list[str]) -> list[Tensor]:
    """Of each example's loss, by itself, all parameters end to end."""
    model.requires_grad_(True)
    found = []
    for example in examples():
        model.zero_grad()
        labels = torch.tensor([[-100] * example.prompt + list(example.tokens[example.prompt :])])
        model(torch.tensor([example.tokens]), labels=labels).loss.backward()
        found.append(flatten({name: model.get_parameter(name).grad.clone() for name in names}))
    return found


@pytest.mark.parametrize("density", [0.01, 0.3])
def test_fisher_keeps_the_entries_where_taking_the_step_back_moves_the_loss_most(checkpoints: Path, density: float):
    base, harm = (open_checkpoint(checkpoints / name) for name in ("base", "harm"))
    delta = TaskVector(base, harm, Scope(include=("*down_proj*", "*norm*")))
    roots = saliency_scores(llama(), examples(), delta.names, "fisher")
    assert roots.source == "fisher scores"
    by_hand = fisher_by_hand(gradients(llama(), list(delta.names)), flatten({n: whole(delta, n) for n in delta.names}))
    found = flatten(pick(delta, EditSettings(select="fisher", density=density), scores=roots))
    expected = keep_largest(by_hand, density)
    assert int(found.sum()) == int(expected.sum())
    # float32 may turn round what lies within its rounding of the cut.
    cut = by_hand[expected].min()
    assert bool(((by_hand - cut).abs()[found != expected] <= 1e-5 * cut).all())
    assert int((found != expected).sum()) <= 2
    snip = pick(
        delta, EditSettings(select="snip", density=density), scores=saliency_scores(llama(), examples(), delta.names)
    )
    assert not torch.equal(flatten(snip), found)
    squares = flatten({n: roots.read(n).double().square() for n in delta.names})
    moment = torch.stack(gradients(llama(), list(delta.names))).double().square().mean(0)
    assert torch.allclose(squares, moment, rtol=1e-3, atol=1e-12)


def test_snip_refuses_what_it_cannot_score():
    with pytest.raises(DataError) as error:
        saliency_scores(llama(), [], ["model.norm.weight"])
    says(error, "no prompts")
    with pytest.raises(DataError) as error:
        saliency_scores(llama(), [Example([1, 2], 2)], ["model.norm.weight"])
    says(error, "prompt and a response")
    with pytest.raises(Exception, match="rename or fuse"):
        saliency_scores(llama(), examples(), ["model.layers.0.experts.w1.weight"])


@pytest.mark.parametrize("kind", ["snip", "fisher"])
def test_scores_are_written_read_again_and_refused_for_other_weights(checkpoints: Path, tmp_path: Path, kind: str):
    calls = []

    def score(kind: str, prompts: str, names):
        calls.append((kind, prompts))
        return saliency_scores(llama(), examples(), names, kind)

    base, harm, scores = (str(p) for p in (checkpoints / "base", checkpoints / "harm", tmp_path / "scores"))
    settings = EditSettings(select=kind, density=0.05)
    sources = Sources(base, (harm,), prompts="p.jsonl", scores=scores)
    first = write_edit(plan_from(sources, settings, score=score), tmp_path / "one")
    second = write_edit(plan_from(Sources(base, (harm,), scores=scores), settings), tmp_path / "two")
    assert calls == [(kind, "p.jsonl")]
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointMismatchError) as error:
        plan_from(Sources(base, (harm,), target=harm, scores=scores), settings)
    says(error, "other weights")
    other = EditSettings(select={"snip": "fisher", "fisher": "snip"}[kind], density=0.05)
    with pytest.raises(CheckpointMismatchError) as error:
        plan_from(Sources(base, (harm,), scores=scores), other)
    says(error, f"are {kind} scores, and {other.select} scores are asked for")
    with pytest.raises(SettingError) as error:
        check_settings(Sources(base, (harm,)), settings)
    says(error, "--prompts")
    with pytest.raises(SettingError) as error:
        check_settings(Sources(base, (harm,), prompts="p"), EditSettings())
    says(error, "select: snip")


def test_a_scope_can_leave_out_embeddings_norms_and_head(checkpoints: Path):
    weights = open_checkpoint(checkpoints / "base")
    everything = set(Scope().names(weights))
    for part, patterns in (
        ("embeddings", ["model.embed_tokens.weight"]),
        ("lm_head", ["lm_head.weight"]),
        ("norms", [n for n in everything if "norm" in n]),
    ):
        left = everything - set(Scope(**{part: False}).names(weights))
        assert left == set(patterns)
        assert left
    gpt = ModelWeights(gpt2())
    left = set(Scope().names(gpt)) - set(Scope(norms=False, embeddings=False).names(gpt))
    assert {n.split(".")[-2] for n in left} == {"ln_1", "ln_2", "ln_f", "wte", "wpe"}
    json.dumps(EditSettings(scope=Scope(norms=False)).recorded())


def test_the_control_of_dare_takes_steps_as_long(write: Write):
    delta = vector(write)
    control = choose(delta, DELTAS["harm"].resolved(EditSettings(select="dare", density=0.25, control=True)))
    assert control.factor == 4.0


def test_several_vectors_are_trimmed_by_draws_of_their_own(write: Write):
    paths = [str(write(n, small_tensors(i, move=0.1 * i))) for i, n in enumerate(("base", "a", "b"))]
    for settings in ({"select": "dare"}, {"select": "random"}, {"control": True}):
        plan = plan_from(Sources(paths[0], tuple(paths[1:])), EditSettings(merge="ties", density=0.3, **settings))
        one, other = (flatten(masks(trim, plan.delta.deltas[0])) for trim in plan.delta.trims)
        assert not torch.equal(one, other)


def test_settings_that_would_be_ignored_are_refused(write: Write):
    for settings, fact in (
        ({"minus": Minus(0.1, select="magnitude", scores="x")}, "minus.scores"),
        ({"minus": Minus(0.1, scores="x", harm="y")}, "minus.harm"),
        ({"select": "dare", "operator": "zero"}, "rescales"),
    ):
        with pytest.raises(SettingError) as error:
            EditSettings(**settings)
        says(error, fact)
    with pytest.raises(SettingError) as error:
        check_settings(Sources("b", aligned="a"), EditSettings(merge="ties"))
    says(error, "no `harm`")


def test_scores_of_other_prompts_are_refused(checkpoints: Path, tmp_path: Path):
    base, harm = str(checkpoints / "base"), str(checkpoints / "harm")
    prompts, settings = tmp_path / "prompts.jsonl", EditSettings(select="snip", density=0.05)
    prompts.write_text("one")
    sources = Sources(base, (harm,), prompts=str(prompts), scores=str(tmp_path / "scores"))
    plan_from(sources, settings, score=lambda _kind, _file, names: saliency_scores(llama(), examples(), names))
    plan_from(sources, settings)
    prompts.write_text("two")
    with pytest.raises(CheckpointMismatchError) as error:
        plan_from(sources, settings)
    says(error, "other prompts")
