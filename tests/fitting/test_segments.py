"""One of three spans of layers is steered: by name, or by the words that its directions write."""

import json
from types import SimpleNamespace

import pytest
import torch
from support.fits import fitted, numbered
from support.models import SPECIAL, WORDS, llama, word_tokenizer

from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.errors import ModelError, SettingError
from sa_lightning.fitting.segments import check_vocabulary, chosen_segment


def module_with(head):
    """A module whose head has these rows, one a token, behind a tokenizer of its own."""
    network = SimpleNamespace(get_output_embeddings=lambda: head)
    return SimpleNamespace(network=network, tokenizer=word_tokenizer())


@pytest.mark.parametrize(("name", "layer"), [("first", 0), ("middle", 1), ("last", 2)])
def test_a_named_segment_is_steered_and_no_other(checkpoints, demonstrations, tmp_path, name, layer):
    whole = fitted(checkpoints / "base", demonstrations, tmp_path / "whole")
    artifact = fitted(checkpoints / "base", demonstrations, tmp_path / "part", segment=name)
    assert artifact.rules["pairs"].steered_layers("original") == [layer]
    assert torch.equal(
        artifact.rules["pairs"].directions["original"][layer], whole.rules["pairs"].directions["original"][layer]
    )
    assert artifact.rules["pairs"].statistics["original"]["layers"] == [0, 1, 2]
    assert artifact.rules["pairs"].extraction["segment"] == name
    assert "vocabulary" not in artifact.rules["pairs"].extraction
    assert "segment" not in whole.rules["pairs"].extraction
    assert "## Words" not in (tmp_path / "part" / "artifact" / "README.md").read_text()


def test_the_segment_that_writes_the_words_is_steered_and_all_is_recorded(checkpoints, demonstrations, tmp_path):
    whole = fitted(checkpoints / "base", demonstrations, tmp_path / "whole")
    head, words = llama().lm_head.weight, SPECIAL + WORDS
    expected = []
    for layer in range(3):  # a segment of one layer is its own first component
        logits = head @ whole.rules["pairs"].directions["original"][layer]
        sides = [[words[i] for i in (sign * logits).argsort(descending=True)[:10].tolist()] for sign in (1, -1)]
        expected.append(sides)
    wanted = expected[2][1][:2]  # the last layer's first two words of the other sign
    artifact = fitted(
        checkpoints / "base", demonstrations, tmp_path / "part", segment="vocabulary", refusal_words=wanted
    )
    record = artifact.rules["pairs"].extraction["vocabulary"]["original"]
    assert [one["layers"] for one in record["segments"]] == [[0], [1], [2]]
    for one, sides in zip(record["segments"], expected, strict=True):
        scores = [sum(word in wanted for word in side) / 10 for side in sides]
        kept = 0 if scores[0] >= scores[1] else 1
        assert one["tokens"] == sides[kept]
        assert one["opposite"] == sides[1 - kept]
        assert one["score"] == scores[kept]
        assert one["refusal"] == [word in wanted for word in sides[kept]]
        assert one["logits"] == sorted(one["logits"], reverse=True)
    best = max(one["score"] for one in record["segments"])
    assert record["segments"][record["steered"]]["score"] == best
    assert artifact.rules["pairs"].steered_layers("original") == record["segments"][record["steered"]]["layers"]
    assert json.loads((tmp_path / "part" / "artifact" / "sa_config.json").read_text())["extraction"]["vocabulary"]
    card = (tmp_path / "part" / "artifact" / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| original | 2 to 2 |") and "`" in line)
    assert f"`{record['segments'][2]['tokens'][0]}`" in row
    assert row.endswith("| yes |" if record["steered"] == 2 else "| no |")
    assert "segment `vocabulary`" in card
    assert "'segments'" not in card


def test_each_set_of_weights_has_words_of_its_own(checkpoints, demonstrations, tmp_path):
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), density=0.5, scale=2.0, save_edited=False)
    settings = {"segment": "vocabulary", "refusal_words": ["s*", *WORDS]}
    artifact = fitted(checkpoints / "base", demonstrations, tmp_path, surgery, epochs=2, **settings)
    found = artifact.rules["pairs"].extraction["vocabulary"]
    assert sorted(found) == ["edited", "original"]
    assert found["edited"]["segments"] != found["original"]["segments"]
    for name, record in found.items():
        assert artifact.rules["pairs"].steered_layers(name) == record["segments"][record["steered"]]["layers"]


def test_rows_of_the_head_that_are_no_tokens_are_left_out():
    vocabulary = SPECIAL + WORDS
    width = len(vocabulary) + 3
    directions = torch.zeros(6, width)
    for layer, word in enumerate(["cake", "cake", "sorry", "sorry", "window", "window"]):
        directions[layer, vocabulary.index(word)] = 1
        directions[layer, -1] = 5  # what only a padded row would write
    head = torch.nn.Linear(width, width, bias=False)
    head.weight.data = torch.eye(width)
    layers, record = chosen_segment("vocabulary", directions, module_with(head), None)
    assert layers == [2, 3]
    assert record["segments"][1]["tokens"][0] == "sorry"
    assert record["segments"][1]["refusal"][0]
    assert all(token in vocabulary for one in record["segments"] for token in one["tokens"])


@pytest.mark.parametrize("head", [None, SimpleNamespace(weight=torch.zeros(4, 9)), SimpleNamespace(weight=None)])
def test_a_model_without_a_head_over_words_is_refused(head):
    with pytest.raises(ModelError, match="Name the segment"):
        chosen_segment("vocabulary", torch.eye(6), module_with(head), None)


def test_where_no_segment_writes_such_words_the_fit_stops_and_writes_nothing(checkpoints, demonstrations, tmp_path):
    with pytest.raises(SettingError, match="No segment's directions write a word of refusal"):
        fitted(checkpoints / "base", demonstrations, tmp_path, segment="vocabulary", refusal_words=["zebra"])
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segment": "middle", "layers": [1]}, "beside layers"),
        ({"segment": "vocabulary", "choose_layers": 1}, "beside choose_layers"),
        ({"segment": "last", "strength": {1: 0.1}}, "beside strength per layer"),
        ({"segment": "first", "refusal_words": ["no"]}, "with `steering.segment` first"),
        ({"refusal_words": ["no"]}, "with `steering.segment` none"),
        ({"segment": "vocabulary", "refusal_words": []}, "Name some"),
        ({"segment": "vocabulary", "refusal_words": [" *"]}, "Name some"),
    ],
)
def test_settings_that_contradict_one_another_are_refused_at_once(settings, message):
    with pytest.raises(SettingError, match=message):
        numbered(**settings)


def test_models_that_are_too_shallow_or_split_are_refused(checkpoints, demonstrations, tmp_path):
    with pytest.raises(SettingError, match="2 layers cannot be cut into 3"):
        fitted(checkpoints / "other", demonstrations, tmp_path, segment="first")
    with pytest.raises(SettingError, match="strategy sharded"):
        check_vocabulary("vocabulary", 6, sharded=True)
    check_vocabulary("middle", 6, sharded=True)
    check_vocabulary("none", 2, sharded=True)
