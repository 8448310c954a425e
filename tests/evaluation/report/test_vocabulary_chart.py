"""The plot of the words that directions write."""

import warnings

from sa_lightning.evaluation.report.vocabulary_chart import draw_vocabulary


def vocabulary():
    odd = [" cannot", "$x^", "\n", "不能", "[/INST]"]
    segment = {
        "layers": [0, 1], "score": 0.2, "tokens": odd, "logits": [3.0, 2.5, 2.0, 1.5, 1.0],
        "refusal": [True, False, False, False, False], "opposite": ["a"] * 5,
    }  # fmt: skip
    segments = [segment, {**segment, "layers": [2, 3]}, {**segment, "layers": [4, 5]}]
    return {name: {"steered": 1, "segments": segments} for name in ("original", "edited")}


def test_tokens_of_any_kind_are_drawn_and_the_same_twice(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that is missing
        for name in ("a.svg", "b.svg"):
            draw_vocabulary(vocabulary(), tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert text.count("#b8485f") == 2 * 3 + 1  # a bar of each segment, and the legend
