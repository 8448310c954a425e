"""The largest strength that harmless replies bear: what a slow, separate look at the logits says."""

import json
from pathlib import Path

import pytest
import torch
from references.divergence import slow_kl
from support.models import artifact_for, llama, word_tokenizer

from sa_lightning.errors import DataError, NothingToDoError
from sa_lightning.fitting import HarmlessReplies, largest_strength, ordinary_states
from sa_lightning.fitting.strength import LESS
from sa_lightning.models import locate_blocks

PROMPTS = ["<bos><user> how do i bake a cake <assistant>", "<bos><user> bake cake <assistant>"]


@pytest.fixture(scope="module")
def setting():
    model, tokenizer = llama(), word_tokenizer()
    tokenizer.padding_side = "left"
    blocks = locate_blocks(model)
    ordinary = ordinary_states(blocks, [[1, 6, 7, 8, 9, 10], [1, 11, 12]])
    norms = {"original": {layer: float(ordinary.site[layer]) for layer in range(3)}}
    return model, tokenizer, blocks, norms


def artifact(model, norms, intervention="add", **settings):
    return artifact_for(model, intervention=intervention, strength=0.0, unit="typical", typical_norms=norms, **settings)


@pytest.mark.parametrize("intervention", ["add", "add_keep_norm", "add_keep_norm_adaptive", "ablate", "add_absolute"])
def test_the_strength_is_within_the_budget_and_a_little_more_is_not(setting, intervention):
    model, tokenizer, blocks, norms = setting
    art = artifact(model, norms, intervention)
    found = largest_strength(model, blocks, art, "original", HarmlessReplies(model, blocks, tokenizer, PROMPTS), 0.02)
    assert slow_kl(model, tokenizer, PROMPTS, art, found.strength) <= 0.02 * 1.001
    assert slow_kl(model, tokenizer, PROMPTS, art, found.strength * 1.08) > 0.02
    tried = {strength: kl for strength, kl, _ in found.as_dict()["tried"]}
    assert tried[found.strength] == pytest.approx(slow_kl(model, tokenizer, PROMPTS, art, found.strength), rel=1e-3)
    assert found.prompts == 2


def test_the_other_way_is_found_with_the_other_sign(setting):
    model, tokenizer, blocks, norms = setting
    replies = HarmlessReplies(model, blocks, tokenizer, PROMPTS)
    back = largest_strength(model, blocks, artifact(model, norms), "original", replies, 0.02, sign=-1.0)
    assert back.strength < 0
    assert slow_kl(model, tokenizer, PROMPTS, artifact(model, norms), back.strength) <= 0.02 * 1.001


def test_a_budget_that_nothing_exceeds_gives_the_largest_strength_there_is(setting):
    model, tokenizer, blocks, norms = setting
    replies = HarmlessReplies(model, blocks, tokenizer, PROMPTS)
    art = artifact(model, norms, "ablate")
    assert largest_strength(model, blocks, art, "original", replies, 1e6).strength == 1.0


def test_a_strength_whose_replies_are_no_language_is_lowered(setting):
    model, tokenizer, blocks, norms = setting
    calls = []

    def language(prompt, reply):
        calls.append(reply)
        return len(calls) <= 2 or len(calls) > 8  # the unsteered are; three times two steered ones are not

    replies = HarmlessReplies(model, blocks, tokenizer, PROMPTS, language)
    art = artifact(model, norms)
    found = largest_strength(model, blocks, art, "original", replies, 0.02)
    free = largest_strength(model, blocks, art, "original", HarmlessReplies(model, blocks, tokenizer, PROMPTS), 0.02)
    assert found.strength == pytest.approx(free.strength / LESS**3)
    assert [bad for _, _, bad in found.as_dict()["tried"] if bad is not None] == [0, 2, 2, 2]


def test_what_bears_no_step_is_told_with_what_to_change(setting):
    model, tokenizer, blocks, norms = setting
    replies = HarmlessReplies(model, blocks, tokenizer, PROMPTS, lambda prompt, reply: True)
    with pytest.raises(NothingToDoError, match="kl_budget"):
        largest_strength(model, blocks, artifact(model, norms), "original", replies, 1e-12)


def test_no_prompts_and_unknown_words_are_refused(setting):
    model, tokenizer, blocks, _ = setting
    with pytest.raises(DataError, match="no harmless prompts"):
        HarmlessReplies(model, blocks, tokenizer, [])
    with pytest.raises(DataError, match="does not know most words"):
        HarmlessReplies(model, blocks, tokenizer, ["what is the capital of Norway"])


def test_the_model_is_as_before_afterwards(setting):
    model, tokenizer, blocks, norms = setting
    ids = torch.tensor([[1, 6, 7, 8]])
    before = model(ids).logits
    replies = HarmlessReplies(model, blocks, tokenizer, PROMPTS)
    largest_strength(model, blocks, artifact(model, norms), "original", replies, 0.02)
    assert torch.equal(model(ids).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_fit_finds_it_and_says_how(checkpoints, demonstrations, tmp_path):
    from callbacks.test_extraction import fit

    from sa_lightning import SteeringArtifact
    from sa_lightning.callbacks import ExtractionCallback

    path = Path(tmp_path / "ordinary.jsonl")
    rows = [{"prompt": "how do i bake a cake"}, {"prompt": "bake a cake", "kind": "harmless"}]
    rows.append({"prompt": "break a window", "kind": "harmful"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    callback = ExtractionCallback(ordinary=str(path), kl_budget=0.02)
    fit(checkpoints / "base", demonstrations, tmp_path, callback)
    found = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    search = found.extraction["strength_search"]
    assert found.strength == search["strength"] > 0
    assert search["prompts"] == 2
    assert found.unit == "typical"
    assert found.sinks == 8.0
    assert set(found.dose["original"]) == set(found.typical_norms["original"]) == {0, 1, 2}
    assert found.config()["dose_in_all"]["original"] == pytest.approx(sum(found.dose["original"].values()))
