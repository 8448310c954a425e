import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.models import llama
from support.small_checkpoints import says

from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.cli.edit import run
from sa_lightning.errors import DataError, NothingToDoError, SettingError
from sa_lightning.fitting import Surgery
from sa_lightning.fitting.examples import _spread, read_examples
from sa_lightning.models import load_tokenizer
from sa_lightning.module import CausalLMModule
from sa_lightning.surgery import (
    AnswerShift,
    EditPlan,
    EditSettings,
    Example,
    ModelWeights,
    Sources,
    check_settings,
    find_layer_scales,
    plan_from,
)
from sa_lightning.surgery.delta import whole
from sa_lightning.surgery.edit.layer_scales import Point, _within, stepped
from sa_lightning.surgery.scope import group_of


def examples(count: int, seed: int) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 14, (count,), generator=generator).tolist()
    return [Example(torch.randint(6, 20, (n,), generator=generator).tolist(), 2 + n % 3) for n in lengths]


def planned(checkpoints: Path, **settings: object) -> EditPlan:
    sources = Sources(str(checkpoints / "base"), (str(checkpoints / "harm"),))
    return plan_from(sources, EditSettings(**{"density": 1.0, "scale": 0.5, **settings}))


class Quadratic:
    """Damage Σ aₗ sₗ² and good Σ gₗ sₗ, of how far the model's layers have stepped."""

    def __init__(self, model: torch.nn.Module, plan: EditPlan, costs: dict[str, float], gains: dict[str, float]):
        self.model, self.costs, self.gains, self.scale = model, costs, gains, plan.settings.scale
        self.deltas = {name: whole(plan.delta, name).double() for name in plan.names}
        self.before = {name: model.get_parameter(name).double() for name in plan.names}

    def steps(self) -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        for name, delta in self.deltas.items():
            moved = (self.before[name] - self.model.get_parameter(name).double()) * delta
            found = sums.setdefault(group_of(name, "layer"), [0.0, 0.0])
            found[0] += float(moved.sum())
            found[1] += float((delta * delta).sum())
        return {layer: along / energy / self.scale for layer, (along, energy) in sums.items()}

    def damage(self) -> float:
        return sum(self.costs[layer] * step**2 for layer, step in self.steps().items())

    def benefit(self) -> float:
        return sum(self.gains[layer] * step for layer, step in self.steps().items())


@pytest.mark.parametrize("budget", [0.003, 0.1, 20.0])
def test_of_quadratic_damage_and_linear_good_the_scales_are_the_best_there_are(checkpoints: Path, budget: float):
    model, plan = llama(), planned(checkpoints)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    costs, gains = {"0": 1.0, "1": 4.0, "2": 0.5, "other": 2.0}, {"0": 1.0, "1": 2.0, "2": -1.0, "other": 0.3}
    shift = Quadratic(model, plan, costs, gains)
    scales, record = find_layer_scales(plan, ModelWeights(model), shift, budget)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    # Lagrange: sₗ = μ gₗ / aₗ on the layers that do good, all of the budget spent.
    free = {layer: max(0.0, gains[layer]) / costs[layer] for layer in costs}
    best = math.sqrt(budget / sum(costs[layer] * free[layer] ** 2 for layer in costs))
    for layer, scale in scales.items():
        assert scale == pytest.approx(best * free[layer], rel=0.02)
    assert list(scales) == ["0", "1", "2", "other"]
    assert scales["2"] == 0
    assert 0.98 * budget <= record["kl"] <= budget
    assert 0.99 * budget <= record["one factor for all"]["kl"] <= budget
    assert record["benefit"] > 1.1 * record["one factor for all"]["benefit"]
    # What is recorded is what those scales do.
    with stepped(plan, ModelWeights(model), scales):
        assert shift.damage() == record["kl"]
        assert shift.benefit() == record["benefit"]
    assert shift.damage() == 0


def test_budgets_that_nothing_meets_are_refused(checkpoints: Path):
    model, plan = llama(), planned(checkpoints)
    ones = dict.fromkeys(("0", "1", "2", "other"), 1.0)
    with pytest.raises(NothingToDoError) as error:
        find_layer_scales(plan, ModelWeights(model), Quadratic(model, plan, ones, dict.fromkeys(ones, -1.0)), 0.1)
    says(error, "no edit found makes unsafe answers less likely")
    flat = Quadratic(model, plan, dict.fromkeys(ones, 0.0), ones)
    with pytest.raises(SettingError) as error:
        find_layer_scales(plan, ModelWeights(model), flat, 0.1)
    says(error, "`kl_budget` is 0.1 nats", "smaller budget")


def test_damage_is_the_mean_kl_of_answer_tokens_and_good_the_rise_of_the_loss(checkpoints: Path):
    model, harmless, unsafe = llama(), examples(37, 0), examples(18, 1)
    shift = AnswerShift(model, harmless, unsafe)
    assert shift.damage() == 0
    assert shift.benefit() == 0
    other = llama(seed=4)
    divergences, rises = [], []
    with torch.no_grad():
        for example in harmless:
            tokens = torch.tensor([example.tokens])
            for place in range(example.prompt, len(example.tokens)):
                p, q = (m(tokens[:, :place]).logits[0, -1].double().softmax(-1) for m in (model, other))
                divergences.append(float((p * (p / q).log()).sum()))
        for example in unsafe:
            tokens, labels = torch.tensor([example.tokens]), torch.tensor([example.tokens])
            labels[0, : example.prompt] = -100
            rises.append(float(other(tokens, labels=labels).loss - model(tokens, labels=labels).loss))
    model.load_state_dict(other.state_dict())
    assert shift.damage() == pytest.approx(sum(divergences) / len(divergences), rel=1e-4)
    assert shift.benefit() == pytest.approx(sum(rises) / len(rises), rel=1e-4)
    model.model.norm.weight.data[0] = math.nan
    assert shift.damage() == math.inf
    with pytest.raises(DataError, match="a prompt and a response"):
        AnswerShift(model, [Example([1, 2], 2)], unsafe)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    kinds = [("harmless", "cake"), ("harmful", "window"), ("harmless", "window"), ("contrast", "cake")]
    rows = [
        {"kind": kind, "prompt": f"how do i bake a {noun}", "answer": f"first bake a {noun} ."} for kind, noun in kinds
    ]
    harmless, unsafe = tmp_path / "harmless.jsonl", tmp_path / "unsafe.jsonl"
    harmless.write_text("\n".join(map(json.dumps, rows)))
    pairs = [{"question": "how do i break a cake", "safe": "no .", "unsafe": "first break a cake ."}] * 2
    unsafe.write_text("\n".join(map(json.dumps, pairs)))
    return harmless, unsafe


def test_a_budget_is_spent_once_and_redone_from_its_record(checkpoints: Path, files, monkeypatch):
    harmless, unsafe = files
    module = CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    before = {n: t.clone() for n, t in module.network.state_dict().items()}
    given = {"kl_budget": 0.02, "kl_prompts": str(harmless), "prompts": str(unsafe), "density": 0.3}
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), **given).surgery
    surgery.open(str(module.target))
    shift = AnswerShift(
        module.network,
        read_examples(harmless, module.tokenizer, kind="harmless"),
        read_examples(unsafe, module.tokenizer),
    )
    surgery.apply(module.network, module.tokenizer, module.dtype_name)
    edited = {n: t.clone() for n, t in module.network.state_dict().items()}
    record = json.loads(json.dumps(surgery.record()))
    assert shift.damage() == record["search"]["kl"] <= 0.02
    assert shift.benefit() == record["search"]["benefit"] > 0
    assert record["settings"]["kl_budget"] == 0.02
    assert set(record["settings"]["layer_scales"]) == {"0", "1", "2", "other"}
    surgery.undo()
    assert all(torch.equal(t, before[n]) for n, t in module.network.state_dict().items())
    monkeypatch.setattr("sa_lightning.fitting.examples.find_layer_scales", lambda *_: pytest.fail("searched again"))
    again = Surgery.from_record(record)
    again.open(str(module.target))
    again.apply(module.network, module.tokenizer, module.dtype_name)
    assert all(torch.equal(t, edited[n]) for n, t in module.network.state_dict().items())
    again.undo()


def test_sa_edit_spends_a_budget_as_a_fit_does(checkpoints: Path, files, tmp_path: Path):
    harmless, unsafe = files
    base, harm = str(checkpoints / "base"), str(checkpoints / "harm")
    places = ["--kl_prompts", str(harmless), "--prompts", str(unsafe)]
    run(["--base", base, "--harm", harm, "--output", str(tmp_path / "out"), "--kl_budget", "0.02", *places])
    report = json.loads((tmp_path / "out" / "surgery.json").read_text())
    module = CausalLMModule(base)
    module.configure_model()
    surgery = SurgeryCallback(harm=harm, kl_budget=0.02, kl_prompts=str(harmless), prompts=str(unsafe)).surgery
    surgery.open(str(module.target))
    surgery.apply(module.network, module.tokenizer, module.dtype_name)
    record = json.loads(json.dumps(surgery.record()))
    assert report["settings"] == record["settings"]
    assert report["search"] == record["search"]
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[n], t) for n, t in module.network.state_dict().items() if n in written)


def test_of_many_examples_some_are_measured_from_all_over_the_file():
    many = [Example([0, index], 1) for index in range(130)]
    found = [example.tokens[1] for example in _spread(many)]
    assert (len(found), found[0], len(set(found))) == (64, 0, 64)
    assert {b - a for a, b in itertools.pairwise(found)} <= {2, 3}
    assert found[-1] > 125
    assert _spread(many[:5]) == many[:5]


def test_harmless_rows_are_those_of_that_kind_where_kinds_are_given(checkpoints: Path, files):
    tokenizer = load_tokenizer(str(checkpoints / "base"), "chat")
    found = read_examples(files[0], tokenizer, kind="harmless")
    assert [tokenizer.decode(e.tokens[e.prompt :]) for e in found] == ["first bake a cake .", "first bake a window ."]
    assert len(read_examples(files[0], tokenizer)) == 4
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    files[0].write_text("\n".join(json.dumps({**row, "kind": "harmful"}) for row in rows))
    with pytest.raises(DataError, match="none of the `kind` harmless"):
        read_examples(files[0], tokenizer, kind="harmless")
    with pytest.raises(DataError, match="holds demonstrations"):
        read_examples(files[1], tokenizer, kind="harmless")
    files[0].write_text("\n".join(json.dumps({"prompt": r["prompt"], "response": r["answer"]}) for r in rows))
    assert len(read_examples(files[0], tokenizer, kind="harmless")) == 4


@pytest.mark.parametrize(
    ("sources", "settings", "fact"),
    [
        ({"prompts": "p"}, {"kl_budget": 0.1}, "`kl_prompts` None"),
        ({"kl_prompts": "p"}, {"kl_budget": 0.1}, "`prompts` None"),
        ({"kl_prompts": "p", "prompts": "p"}, {}, "`kl_budget` is None"),
        ({"kl_prompts": "p", "prompts": "p", "scores": "s"}, {"kl_budget": 0.1}, "`select` is magnitude"),
        ({}, {"kl_budget": 0.0}, "above 0, but is 0.0"),
        ({}, {"kl_budget": 0.1, "scale": 0}, "of 0 there are none"),
        ({}, {"kl_budget": 0.1, "operator": "zero"}, "takes no step"),
    ],
)
def test_budgets_that_cannot_be_meant_are_refused(sources: dict, settings: dict, fact: str):
    with pytest.raises(SettingError) as error:
        check_settings(Sources("base", ("harm",), **sources), EditSettings(**settings))
    assert fact in str(error.value)
    check_settings(Sources("base", ("harm",), prompts="p", kl_prompts="p"), EditSettings(kl_budget=0.1, select="snip"))


@pytest.mark.parametrize("budget", [1e-3, 0.05, 3.0])
@pytest.mark.parametrize("power", [1, 2, 4, 10])
def test_a_budget_is_met_in_few_trials_whatever_the_power_of_the_step(power: int, budget: float):
    tried = []

    def measured(scales: dict[str, float], limits: tuple[float, float] = (0, math.inf)) -> Point:
        tried.append(scales["0"])
        return Point(dict(scales), scales["0"] ** power, 1.0)

    found = _within({"0": 1.0}, measured, budget)
    assert 0.99 * budget <= found.damage <= budget
    assert len(tried) < 16


def test_where_damage_jumps_the_budget_is_not_overspent():
    for damage in (lambda step: 0.0 if step < 0.3 else 1.0, lambda step: step if step < 0.01 else math.inf):
        found = _within({"0": 1.0}, lambda s, _=None, damage=damage: Point(dict(s), damage(s["0"]), 1.0), 0.1)
        assert found.damage <= 0.1
        assert found.scales["0"] == pytest.approx(0.3 if damage(0.2) == 0 else 0.01, rel=1e-3)
