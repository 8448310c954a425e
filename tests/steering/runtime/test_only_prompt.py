"""Steering that leaves replies alone, against forwards over the whole text in which the prompt alone is moved."""

import dataclasses
import math

import pytest
import torch
from references.divergence import slow_kl
from support.gated import prompts
from support.models import artifact_for, gpt2, linear_gate, llama, mistral, padded, word_tokenizer

from sa_lightning import SteeringArtifact, steer
from sa_lightning.errors import ArtifactError, ModelError
from sa_lightning.fitting import HarmlessReplies, largest_strength, ordinary_states
from sa_lightning.models import locate_blocks
from sa_lightning.steering import GateRecord, prompt_lengths
from sa_lightning.steering.intervention import INTERVENTIONS

NEW = 5


def moved(model, artifact, length):
    """Hooks that move the first so many positions of every block's output, as the equations say."""
    handles = []
    for layer, direction in artifact.rules["pairs"].directions["original"].items():

        def hook(_module, _args, output, direction=direction):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[:, :length] = INTERVENTIONS[artifact.rules["pairs"].intervention](
                hidden[:, :length], direction, artifact.rules["pairs"].strength
            )
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handles.append(locate_blocks(model).at("residual")[layer].register_forward_hook(hook))
    return handles


def slow(model, artifact, prompt):
    """Greedy tokens and their logits, without a cache: the whole text runs for every token."""
    tokens, logits = list(prompt), []
    for _ in range(NEW):
        handles = moved(model, artifact, len(prompt))
        with torch.no_grad():
            logits.append(model(torch.tensor([tokens])).logits[0, -1])
        for handle in handles:
            handle.remove()
        tokens.append(int(logits[-1].argmax()))
    return tokens[len(prompt) :], torch.stack(logits)


def replies(model, rows):
    found = model.generate(
        **padded(rows), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, return_dict_in_generate=True,
        output_logits=True, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return found.sequences[:, -NEW:].tolist(), torch.stack(found.logits, 1)


@pytest.mark.parametrize("make", [llama, gpt2, mistral])
def test_the_prompt_is_steered_and_no_token_of_the_reply(make):
    model = make()
    artifact = artifact_for(model, strength=0.6, only_prompt=True)
    rows = prompts(5, 3)
    with steer(model, artifact):
        tokens, logits = replies(model, rows)
        alone = [replies(model, [row])[1][0] for row in rows]
    for row, said, found, single in zip(rows, tokens, logits, alone, strict=True):
        wanted, slowly = slow(model, artifact, row)
        assert said == wanted
        assert torch.allclose(found, slowly, atol=1e-3)
        assert torch.allclose(found, single, atol=1e-3)  # batched = alone
    whole = artifact_for(model, strength=0.6)
    with steer(model, whole):
        everywhere = replies(model, rows)[1]
    assert torch.equal(everywhere[:, 0], logits[:, 0])  # the first token follows from the prompt alone, bit for bit
    assert not torch.allclose(everywhere[:, 1:], logits[:, 1:], atol=1e-3)
    assert not torch.allclose(replies(model, rows)[1][:, 0], logits[:, 0], atol=1e-3)  # and nothing stays behind


def test_likelihoods_of_given_answers_are_those_of_generation():
    model = llama()
    artifact = artifact_for(model, strength=0.6, only_prompt=True)
    rows = prompts(4, 7)
    with steer(model, artifact):
        tokens, logits = replies(model, rows)
        for row, said, generated in zip(rows, tokens, logits, strict=True):
            with prompt_lengths([len(row)]), torch.no_grad():
                given = model(torch.tensor([[*row, *said]])).logits[0, len(row) - 1 : -1]
            assert torch.allclose(given, generated, atol=1e-3)


def test_strength_0_changes_no_bit():
    model, rows = llama(), prompts(3, 1)
    before = replies(model, rows)[1]
    with steer(model, artifact_for(model, strength=0.0, only_prompt=True)):
        assert torch.equal(replies(model, rows)[1], before)


def test_behind_a_gate_found_prompts_are_steered_as_without_it_and_others_keep_every_bit():
    model, rows = llama(), prompts(6, 4)
    free = artifact_for(model, strength=0.6, only_prompt=True)
    weight = torch.randn(32, generator=torch.Generator().manual_seed(1))
    scores = []
    for row in rows:
        hidden = model(torch.tensor([row]), output_hidden_states=True).hidden_states[2][0, -1]
        scores.append(float(hidden @ weight))
    at = sorted(scores)[3] - 1e-3
    gate = linear_gate({1: weight}, GateRecord(at, numbers={"bias": 0.0}), negative_factor=0.0, whole_prompt=True)
    gated = artifact_for(model, strength=0.6, only_prompt=True, gate=gate)
    plain = replies(model, rows)[1]
    with steer(model, free):
        steered = replies(model, rows)[1]
    with steer(model, gated):
        found = replies(model, rows)[1]
    for i, score in enumerate(scores):
        if score >= at:
            assert torch.allclose(found[i], steered[i], atol=1e-4)
        else:
            assert torch.equal(found[i], plain[i])
    with steer(model, gated.without_gates()):
        assert torch.equal(replies(model, rows)[1], steered)


def test_a_reader_that_does_not_know_of_it_refuses_the_artifact(tmp_path):
    artifact = artifact_for(llama(), only_prompt=True)
    assert artifact.config()["format_version"] == 6
    again = SteeringArtifact.from_pretrained(artifact.save_pretrained(tmp_path / "a"))
    assert again.rules["pairs"].only_prompt
    assert again.rules["pairs"].whole_prompt
    assert "at the tokens of the prompt alone" in (tmp_path / "a" / "README.md").read_text()


def test_a_cache_that_was_not_begun_inside_is_refused():
    model = llama()
    row = torch.tensor([prompts(1, 2)[0]])
    cache = model(row[:, :-1], use_cache=True).past_key_values
    with steer(model, artifact_for(model, only_prompt=True)):
        with pytest.raises(ModelError, match="no gate has decided on"):
            model(row[:, -1:], past_key_values=cache)
        with pytest.raises(ModelError, match="KV cache"):
            model(row, use_cache=False)


def test_a_search_for_its_strength_measures_replies_that_are_left_alone():
    model, tokenizer = llama(), word_tokenizer()
    tokenizer.padding_side = "left"
    blocks = locate_blocks(model)
    ordinary = ordinary_states(blocks, [[1, 6, 7, 8, 9, 10], [1, 11, 12]])
    norms = {"original": {layer: float(ordinary.site[layer]) for layer in range(3)}}
    asked = ["<bos><user> how do i bake a cake <assistant>", "<bos><user> bake cake <assistant>"]
    artifact = artifact_for(model, strength=0.0, unit="typical", typical_norms=norms, only_prompt=True)
    harmless = HarmlessReplies(model, blocks, tokenizer, asked)
    found = largest_strength(model, blocks, artifact.rules["pairs"], "original", harmless, 0.02).strength

    assert slow_kl(model, tokenizer, asked, artifact, found) <= 0.02 * 1.001
    assert slow_kl(model, tokenizer, asked, artifact, found * 1.08) > 0.02
    everywhere = dataclasses.replace(artifact.rules["pairs"], only_prompt=False)
    assert largest_strength(model, blocks, everywhere, "original", harmless, 0.02).strength < found


def test_lm_evals_own_steering_cannot_say_it():
    from sa_lightning.export.formats import spoken

    artifact = artifact_for(llama(), strength=0.6, only_prompt=True, intervention="add_absolute")
    assert math.isfinite(artifact.rules["pairs"].strength)
    with pytest.raises(ArtifactError, match="replies left alone"):
        spoken(artifact, "original", "lm_eval")
