"""Models whose numbers are known beforehand: exact counts, and in the report each is visibly what it is."""

import re
from collections.abc import Callable

import pytest
from support.invented_data import write_everything
from support.judged import ANSWER, TASKS, results_of, scripted, write_world
from support.real import real

from sa_lightning.evaluation import evaluate_lm, write_html

MODELS: dict[str, str | Callable[[str], str]] = {
    "always-refuse": "sorry , i can not help with that .",
    "always-comply": ANSWER,
    "always-empty": "",
    "one-token": "cake " * 30,
    "echo": lambda prompt: prompt,
}
OUTCOME = dict(zip(MODELS, ["refused", "complied", "degenerate", "degenerate", "degenerate"], strict=True))
WORLD = [f"tiny_world_{kind}" for kind in ("harmful", "wrapped", "harmless", "contrast", "facts")]
BENCHMARKS = [
    "sa_advbench", "sa_harmfulqa", "sa_xstest_unsafe", "sa_xstest_safe", "sa_repe_harmless", "sa_gsm8k", "sa_wikitext2",
]  # fmt: skip
N = {"harmful": 3 + 3 + 8 + 8 + 4, "harmless": 3 + 8, "borderline": 3 + 4}
SHARE = {  # of attack success, refusal on harmful, harmless refusal, over-refusal, degenerate
    "always-refuse": (0, 1, 1, 1, 0),
    "always-comply": (1, 0, 0, 0, 0),
    "always-empty": (0, 0, 0, 0, 1),
    "one-token": (0, 0, 0, 0, 1),
    "echo": (0, 0, 0, 0, 1),
}
SAID = {
    "always-refuse": f"always-refuse: refuses everything, {N['harmless'] + N['borderline']} of 18 safe prompts too.",
    "always-comply": f"always-comply: complies with everything, {N['harmful']} of 26 harmful prompts too.",
    "always-empty": "always-empty: every reply is degenerate (44 empty)",
    "one-token": "one-token: every reply is degenerate (44 in a loop)",
    "echo": "echo: every reply is degenerate (44 echoes of the prompt)",
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp("sanity")
    world = write_world(root / "world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SA_DATA_DIR", str(write_everything(root / "data")))
        return {
            name: evaluate_lm(scripted(reply), WORLD + BENCHMARKS, task_dirs=[TASKS], metadata={"world": str(world)})
            for name, reply in MODELS.items()
        }


@pytest.fixture(scope="module")
def results(samples):
    return results_of(samples)


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_exact(results, name):
    arm = results["arms"][name]
    measures = ("attack_success", "refusal_harmful", "harmless_refusal", "over_refusal", "degenerate")
    sizes = (N["harmful"], N["harmful"], N["harmless"], N["borderline"], sum(N.values()))
    for measure, share, n in zip(measures, SHARE[name], sizes, strict=True):
        assert (arm[measure].k, arm[measure].n) == (share * n, n), measure
    for kind, counts in arm["outcomes"].items():
        assert {outcome: count for outcome, count in counts.items() if count} == {OUTCOME[name]: N[kind]}
    assert {task: (found.k, found.n) for task, found in arm["utility"].items()} == {
        "tiny_world_facts": (0, 3), "sa_gsm8k": (0, 8),
    }  # fmt: skip
    assert arm["scores"]["sa_wikitext2"].value == 1  # it gives every word the probability 1


def test_none_of_them_is_helped_by_the_mean_over_categories(results):
    for name, (attacks, *_, degenerate) in SHARE.items():
        mean = results["arms"][name]["macro"]
        assert (mean["attack_success"].rate, mean["degenerate"].rate) == (attacks, degenerate)


@pytest.mark.parametrize("name", MODELS)
def test_each_is_visibly_what_it_is(samples, results, name, tmp_path):
    write_html(results, tmp_path / "report.html", samples=samples)
    text = (tmp_path / "report.html").read_text()
    assert SAID[name] in text
    bars = re.findall(rf'title="{name}">{name}</span><div class="bar">(.*?)</div>', text)
    assert [re.findall(r'class="(\w+)" style="width:([\d.]+)%', bar) for bar in bars] == [
        [(OUTCOME[name], "100.00")]
    ] * 3


def test_a_model_that_is_half_of_each_is_none_of_them(samples):
    mixed = [samples["always-refuse" if i % 2 else "always-comply"][i] for i in range(len(samples["echo"]))]
    from sa_lightning.evaluation.report.headline import remarks

    assert remarks(results_of({"mixed": mixed})) == []


@pytest.mark.real
@pytest.mark.parametrize("name", MODELS)
def test_counts_are_exact_on_full_sets(name):
    sizes = {"advbench": 520, "xstest": 450, "oktest": 300, "malicious_instruct": 100}
    for directory in sizes:
        real("SA_DATA_DIR", directory)

    tasks = ["sa_advbench", "sa_maliciousinstruct", "sa_xstest_unsafe", "sa_xstest_safe", "sa_oktest"]
    arm = results_of({name: evaluate_lm(scripted(MODELS[name]), tasks, task_dirs=[TASKS])})["arms"][name]
    attacks, refused, _, over, degenerate = SHARE[name]
    assert (arm["attack_success"].k, arm["attack_success"].n) == (820 * attacks, 820)
    assert (arm["refusal_harmful"].k, arm["refusal_harmful"].n) == (820 * refused, 820)
    assert (arm["over_refusal"].k, arm["over_refusal"].n) == (550 * over, 550)
    assert (arm["degenerate"].k, arm["degenerate"].n) == (1370 * degenerate, 1370)
