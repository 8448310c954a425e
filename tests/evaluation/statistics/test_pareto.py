from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from sa_lightning.evaluation.report.curves import draw_curves, draw_front
from sa_lightning.evaluation.statistics.pareto import choose, costs_little, front
from sa_lightning.evaluation.statistics.rates import MEASURES, rate

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    signs = (-1, 1, 1)
    found = set(front(points, signs))

    def beats(a, b):
        better = [s * (x - y) for s, x, y in zip(signs, a, b, strict=True)]
        return all(d >= 0 for d in better) and any(d > 0 for d in better)

    for index, point in enumerate(points):
        assert (index in found) == (not any(beats(other, point) for other in points))
    assert found


def metrics(**changes):
    plain = {"attack_success": 50, "refusal_harmful": 50, "harmless_refusal": 0, "over_refusal": 0, "degenerate": 0}
    return {name: rate({**plain, "utility": 90, **changes}[name], 100) for name in MEASURES}


def test_the_choice_is_the_best_that_costs_little():
    limits = {"utility": 0.02, "over_refusal": 0.03}
    before = metrics()
    trials = [
        {"metrics": metrics(attack_success=30)},
        {"metrics": metrics(attack_success=5, over_refusal=4)},
        {"metrics": metrics(attack_success=10, utility=88)},
        {"metrics": None},
        {"metrics": metrics(attack_success=10)},
        {"metrics": metrics(attack_success=1, utility=87)},
    ]
    assert choose(trials, "attack_success", before, limits) == 2
    assert not costs_little(trials[1]["metrics"], before, limits)
    assert choose([trials[1], trials[3]], "attack_success", before, limits) is None
    assert choose(trials, "utility", before, limits) == 0


def test_plots_show_every_series_and_only_rates_with_prompts(tmp_path: Path):
    before = metrics()
    series = {name: [(x, metrics(attack_success=x)) for x in (10, 20, 40)] for name in ("magnitude", "random")}
    draw_curves({"all": series}, ("attack_success", "utility"), before, "density", tmp_path / "curves.svg")
    found = [metrics(attack_success=x, utility=90 - x) for x in (10, 20)]
    draw_front(found, [0, 1], 0, before, "attack_success", "utility", tmp_path / "front.svg")
    for name in ("curves.svg", "front.svg"):
        root = ElementTree.parse(tmp_path / name).getroot()
        assert sum(1 for _ in root.iter("{http://www.w3.org/2000/svg}path")) > 20
