"""Our model inside lm-eval: what it is asked, what comes back, and that it is left as it was."""

import logging
import re

import pytest
import torch
from support.judged import TASKS, scripted
from support.lm_eval_tasks import ALL
from support.models import llama, word_tokenizer

from sa_lightning.evaluation import Outcome, evaluate_lm, summarise


def test_replies_are_the_same_one_by_one_and_in_batches(ask):
    model = llama()
    alone, together = ask(model, batch_size=1), ask(model, batch_size=8)
    assert alone == together
    assert len({sample.reply for sample in alone}) > 1


def test_replies_are_those_of_plain_transformers(ask):
    model, tokenizer = llama(), word_tokenizer()
    for sample in ask(model):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": sample.prompt}], add_generation_prompt=True, return_tensors="pt"
        )
        ids = getattr(ids, "input_ids", ids)
        with torch.no_grad():
            out = model.generate(ids, max_new_tokens=48, do_sample=False, pad_token_id=0)
        assert sample.reply == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_the_prompt_begins_with_one_bos_and_the_reply_has_no_special_token(ask):
    model = llama()
    seen = []
    handle = model.get_input_embeddings().register_forward_hook(lambda m, args, out: seen.append(args[0]))
    samples = ask(model)
    handle.remove()
    prefills = [ids for ids in seen if ids.shape[1] > 1]
    assert prefills
    assert all(((ids == 1).sum(1) == 1).all() for ids in prefills)  # one <bos> a row; padding is another token
    assert not any(re.search("<[a-z]+>", sample.reply) for sample in samples)


def test_a_prompt_has_one_bos_where_tokenizer_or_template_write_one(ask):
    from tokenizers.processors import TemplateProcessing

    tokenizer = word_tokenizer()
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    bare = word_tokenizer()
    bare._tokenizer.post_processor = tokenizer._tokenizer.post_processor
    bare.chat_template = bare.chat_template.replace("{{ bos_token }}", "")  # whose texts begin with one all the same
    none = word_tokenizer(bare.chat_template)  # nobody writes one
    model, counts = llama(), []
    model.get_input_embeddings().register_forward_hook(
        lambda m, args, out: counts.append(int((args[0] == 1).sum(1).max())) if args[0].shape[1] > 1 else None
    )
    ask(model, tokenizer=tokenizer)
    ask(model, tokenizer=bare)
    ask(model, tokenizer=none)
    third = len(counts) // 3
    assert counts == [1] * 2 * third + [0] * third


def test_generation_stops_at_the_end_of_sequence_token(ask):
    model = llama()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[2] = 0.0
    steps = []
    # All logits are equal, so greedy takes the first: make it <eos> by a hook on the head.
    model.lm_head.register_forward_hook(
        lambda m, args, out: steps.append(1) or out.index_fill(-1, torch.tensor(2), 9.0)
    )
    samples = ask(model, ["tiny_world_harmful"], batch_size=8)
    assert [sample.reply for sample in samples] == ["", "", ""]
    assert len(steps) == 1
    assert all(sample.outcome is Outcome.DEGENERATE for sample in samples)


def test_the_model_in_memory_is_asked_with_its_edits_and_hooks(ask):
    model = llama()
    before = ask(model)
    handle = model.model.layers[1].register_forward_hook(lambda m, args, out: -2 * out)
    hooked = ask(model)
    handle.remove()
    assert [s.reply for s in hooked] != [s.reply for s in before]
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(-3)
    assert [s.reply for s in ask(model)] != [s.reply for s in before]


def test_model_tokenizer_and_logging_come_back_as_they_were(ask):
    model, tokenizer = llama().train(), word_tokenizer()
    tokenizer.padding_side, level = "right", logging.getLogger("lm_eval").level
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    ask(model, tokenizer=tokenizer)
    assert model.training
    assert tokenizer.padding_side == "right"
    assert logging.getLogger("lm_eval").level == level
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_quiet_run_prints_nothing(ask, capfd):
    ask(llama(), ["tiny_world_harmful"])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_progress_shows_a_bar(ask, capfd):
    ask(llama(), ["tiny_world_harmful"], progress=True, name="steered")
    assert "steered replies" in capfd.readouterr().err


def test_limit_and_split_choose_the_documents(ask, world):
    samples = ask(llama(), limit=2, metadata={"world": str(world), "split": "validation"})
    assert [sample.id for sample in samples][:2] == ["validation-harmful-0", "validation-harmful-1"]
    assert len(samples) == 6


@pytest.mark.parametrize(
    ("reply", "attack", "over", "utility", "degenerate"),
    [
        ("sorry , i cannot help with that .", 0, 1, 0, 0),
        ("first bake the cake , then bake the window .", 1, 0, 0, 0),
        ("", 0, 0, 0, 1),
        ("cake " * 30, 0, 0, 0, 1),
        (lambda prompt: prompt, 0, 0, 0, 1),
        ("yes .", 0, 0, 1, 1),
    ],
    ids=["refuses", "complies", "empty", "loops", "echoes", "says-yes"],
)
def test_simple_minded_models_are_visibly_what_they_are(world, reply, attack, over, utility, degenerate):
    arm = summarise(evaluate_lm(scripted(reply), ALL, task_dirs=[TASKS], metadata={"world": str(world)}))
    found = [arm["attack_success"], arm["over_refusal"], arm["utility"]["tiny_world_facts"], arm["degenerate"]]
    assert [rate.rate for rate in found] == [attack, over, utility, degenerate]


def test_prompts_that_lose_their_beginning_are_said(ask):
    with pytest.warns(UserWarning, match="context of 60 tokens lose their beginning: 1 of tiny_world_harmful"):
        ask(llama(), ["tiny_world_harmful"], max_length=60)


def test_every_process_of_a_launcher_gets_its_own_samples(world, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    metadata = {"world": str(world)}
    assert len(evaluate_lm(scripted("yes ."), ["tiny_world_facts"], task_dirs=[TASKS], metadata=metadata)) == 3
