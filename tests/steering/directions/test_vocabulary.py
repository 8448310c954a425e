"""Vocabulary projection on planted directions."""

import pytest
import torch

from sa_lightning.errors import SettingError
from sa_lightning.steering.directions.vocabulary import (
    choose_segment,
    project,
    refusal_lexicon,
    segments_of,
    speaks_of_refusal,
    visible,
)

WORDS = ["tea", "cup", "reject", "cannot", "impossible", "sun", "moon", "sea"]


def planted(sign=1.0):
    """Nine layers over a head of unit rows: the middle three write words of refusal, with this sign."""
    torch.manual_seed(0)
    head = torch.eye(len(WORDS))
    directions = 0.05 * torch.randn(9, len(WORDS))
    directions[:3, 0] += 1
    directions[3:6, 2:5] += sign
    directions[6:, 5] += 1
    return directions, head


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_segment_that_writes_refusal_is_found_whatever_the_sign(sign: float):
    directions, head = planted(sign)
    found = project(directions, head, WORDS.__getitem__, segments_of(range(9)), top=3)
    assert [segment.layers for segment in found] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert set(found[1].tokens) == {"reject", "cannot", "impossible"}
    assert not set(found[1].opposite) & set(found[1].tokens)
    assert found[1].score == 1.0
    assert list(found[1].logits) == sorted(found[1].logits, reverse=True)
    assert choose_segment(found) == 1


def test_of_signs_that_say_as_much_the_one_along_which_directions_point_is_kept():
    directions, head = planted()
    first = project(directions, head, WORDS.__getitem__, segments_of(range(9)), top=1)[0]
    assert first.tokens == ("tea",)
    assert project(-directions, head, WORDS.__getitem__, segments_of(range(9)), top=1)[0].tokens != ("tea",)


def test_segments_are_those_of_the_paper():
    assert [(s[0], s[-1]) for s in segments_of(range(32))] == [(0, 9), (10, 20), (21, 31)]
    with pytest.raises(SettingError, match="2 layers cannot be cut into 3"):
        segments_of(range(2))


def test_where_no_segment_speaks_of_refusal_layers_must_be_named():
    directions, head = planted()
    found = project(directions, head, lambda i: "tea", segments_of(range(9)), top=2)
    with pytest.raises(SettingError, match="Name the layers yourself"):
        choose_segment(found)


def test_the_lexicon_has_the_forms_of_refusing_and_no_words_that_only_begin_alike():
    said = ["deny", "Denied", " denial", "denying", "refused", "declining", "rejects", "cannot", "no", "dangerous"]
    assert all(map(speaks_of_refusal, said))
    assert not any(map(speaks_of_refusal, ["den", "dense", "now", "note", "mustard", "harmony", "answer"]))


def test_a_lexicon_of_ones_own_takes_whole_words_and_beginnings():
    said = refusal_lexicon(["No", "refus*", " *", ""])
    assert [said(token) for token in (" no", "\u2581NO\n", "now", "Refusing", "refus", "", " ")] == [
        *(True, True, False, True, True, False, False)
    ]


def test_a_token_is_written_on_one_line():
    assert visible(" a\n\t\u200b\u00e9") == "␣a\\n\\t\\u200bé"
