"""The plot of a gate."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sa_lightning.evaluation.report import gate_charts
from sa_lightning.evaluation.report.gate_charts import draw_gate
from sa_lightning.steering import GateRecord


def record(n=64, **changes):
    draw = np.random.default_rng(0)
    scores = {
        "positive": draw.normal(1, 0.8, n).round(6).tolist(),
        "negative": draw.normal(-1, 0.8, 2 * n).round(6).tolist(),
    }
    whole = {
        "threshold": 0.1, "held_out": 3 * n, "auroc": 0.95, "positive": (n - 3, n), "negative": (5, 2 * n),
        "scores": scores, "layer_auroc": {"layers": [4, 5, 6, 7], "auroc": [0.61, 0.8, 0.93, 0.9]},
    }  # fmt: skip
    return GateRecord.from_dict({key: value for key, value in {**whole, **changes}.items() if value is not None})


@pytest.fixture
def panels(monkeypatch):
    """The axes of whatever is drawn."""
    kept = []
    monkeypatch.setattr(gate_charts, "save_figure", lambda axes, path: kept.extend(axes.figure.axes))
    return kept


def texts(axes):
    legend = axes.get_legend()
    return [text.get_text() for text in (*axes.texts, *(legend.get_texts() if legend else ()))]


def test_the_same_record_gives_the_same_image_without_a_date(tmp_path):
    for name in ("a.svg", "b.svg"):
        assert draw_gate(record(), tmp_path / name, "original")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert not re.search(r"<dc:date>", text)
    assert sum(1 for _ in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}path")) > 60


def test_joined_gates_have_a_line_each(panels, tmp_path):
    single = {
        kind: {"threshold": 0.0, "layer_auroc": {"layers": [1, 2], "auroc": area}}
        for kind, area in (("a", [0.6, 0.7]), ("b", [0.9, 0.8]))
    }
    draw_gate(record(layer_auroc=None, joined=single), tmp_path / "gate.svg", "original")
    lines = {line.get_label(): list(line.get_ydata()) for line in panels[2].lines}
    assert lines["a"] == [0.6, 0.7]
    assert lines["b"] == [0.9, 0.8]


def test_who_is_exempted_is_said_beside_who_has_a_score(panels, tmp_path):
    draw_gate(
        record(exempt={"threshold": 0.0, "exempted": {"positive": [7, 71], "negative": [2, 130]}}),
        tmp_path / "gate.svg",
        "original",
    )
    assert texts(panels[0])[:2] == [
        "positive (n = 64; 7 more are exempted first)",
        "negative (n = 128; 2 more are exempted first)",
    ]


def test_scores_threshold_bins_and_layers_are_what_was_recorded(panels, tmp_path):
    draw_gate(record(), tmp_path / "gate.svg", "edited")
    scores, curve, single = panels
    assert scores.get_title(loc="left") == "gate, edited weights"
    assert sum(patch.get_height() for patch in scores.patches) == 3 * 64
    assert scores.lines[0].get_xdata()[0] == 0.1
    assert texts(scores) == ["positive (n = 64)", "negative (n = 128)", "threshold 0.1"]
    (bars,) = curve.containers
    x, y = bars.lines[0].get_data()
    assert len(x) == 10
    assert list(x) == sorted(x)
    assert sum(y) * 19.2 == pytest.approx(64, rel=0.1)
    assert "calibration error" in texts(curve)[1]
    assert list(single.lines[0].get_ydata()) == [0.61, 0.8, 0.93, 0.9]
    caption = scores.figure._supxlabel.get_text()
    for fact in (
        "logistic curve",
        "equal mass",
        "weighted as they are: 64 positive, 128 negative",
        "held-out prompts",
    ):
        assert fact in caption


def test_what_was_not_recorded_is_said_and_where_nothing_was_nothing_is_drawn(panels, tmp_path):
    assert draw_gate(record(scores=None), tmp_path / "gate.svg", "original")
    assert [texts(axes) for axes in panels[:2]] == [["not recorded"]] * 2
    panels.clear()
    unknown = {"layers": [1, 2], "auroc": [None, float("nan")]}
    assert draw_gate(record(n=6, layer_auroc=unknown, held_out=0), tmp_path / "gate.svg", "original")
    assert panels[0].get_ylabel() == "the prompts that the gate was fitted on"
    assert texts(panels[1]) == ["fewer than 10 prompts of a class"]
    assert texts(panels[2]) == ["not recorded"]
    assert not draw_gate(record(scores=None, layer_auroc=None), tmp_path / "gate.svg", "original")
    assert not draw_gate(record(scores={"positive": [], "negative": []}, layer_auroc=None), tmp_path / "gate.svg", "x")


def test_scores_that_are_all_the_same_are_drawn(tmp_path):
    scores = {"positive": [0.5] * 12, "negative": [0.5] * 12}
    assert draw_gate(record(scores=scores), tmp_path / "gate.svg", "original")
    assert (tmp_path / "gate.svg").is_file()
