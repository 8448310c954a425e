"""An instruction before every prompt, or against it: what the model is asked, and what it says."""

import pytest
import torch
import yaml
from lm_eval.api.instance import Instance
from references import self_contrast as reference
from support.judged import TASKS, write_world
from support.models import artifact_for, llama, word_tokenizer

from sa_lightning import steer
from sa_lightning.errors import ModelError, SettingError
from sa_lightning.evaluation import Prompting, evaluate
from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from sa_lightning.evaluation.harness.journal import Journal

TOLD = "no window , sorry ."
GREEDY = {"until": [], "do_sample": False, "max_gen_toks": 8}
ALL = ["tiny_world_harmful", "tiny_world_contrast", "tiny_world_facts"]
SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}<unk> {{ m['content'] }} "
    "{% elif m['role'] == 'user' %}<user> {{ m['content'] }} {% else %}<assistant> {{ m['content'] }} {{ eos_token }} "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
DROPS = SYSTEM.replace("<unk> {{ m['content'] }} ", "")


@pytest.fixture
def ask(tmp_path):
    world = write_world(tmp_path / "world")

    def run(model, prompting=None, tasks=ALL, **settings):
        settings = {"batch_size": 4, "max_length": 128, "metadata": {"world": str(world)}, **settings}
        tokenizer = settings.pop("tokenizer", word_tokenizer())
        return evaluate(model, tokenizer, tasks, task_dirs=[TASKS], prompting=prompting, **settings)

    return run


def ids(tokenizer, prompt, prefix=""):
    history = [{"role": "user", "content": prompt}] + [{"role": "assistant", "content": prefix}] * bool(prefix)
    text = tokenizer.apply_chat_template(
        history, tokenize=False, add_generation_prompt=not prefix, continue_final_message=bool(prefix)
    )
    return tokenizer(text, add_special_tokens=False).input_ids


def reply(tokenizer, tokens):
    end = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else len(tokens)
    return tokenizer.decode(tokens[:end], skip_special_tokens=True)


def test_an_instruction_stands_before_every_prompt_and_no_sample_shows_it(ask):
    model, tokenizer = llama(), word_tokenizer()
    plain, found = ask(model), ask(model, Prompting(TOLD))
    assert [sample.prompt for sample in found] == [sample.prompt for sample in plain]
    assert [sample.reply for sample in found] != [sample.reply for sample in plain]
    for sample in found:
        written = torch.tensor([ids(tokenizer, f"{TOLD} {sample.prompt}")])
        out = model.generate(written, max_new_tokens=48, do_sample=False, pad_token_id=0)
        assert sample.reply == tokenizer.decode(out[0, written.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("role", ["user", "system"])
def test_a_ratio_of_one_says_what_the_prompts_say_and_of_zero_what_they_say_with_the_instruction(ask, role):
    tokenizer = word_tokenizer(SYSTEM)
    model, told = llama(), Prompting(TOLD, role)
    without, with_ = ask(model, tokenizer=tokenizer), ask(model, told, tokenizer=tokenizer)
    assert ask(model, Prompting(TOLD, role, contrast=1.0), tokenizer=tokenizer) == without
    assert ask(model, Prompting(TOLD, role, contrast=0.0), tokenizer=tokenizer) == with_
    assert ask(model, Prompting(TOLD, role, contrast=2.5), tokenizer=tokenizer) not in (without, with_)
    assert with_ != without


def test_replies_by_self_cd_are_those_of_the_slow_reference_whatever_the_batch(ask):
    model, tokenizer = llama(), word_tokenizer()
    alone, together = (
        ask(model, Prompting(TOLD, contrast=2.5), ["tiny_world_harmful"], batch_size=size) for size in (1, 8)
    )
    assert alone == together
    for sample in alone:
        first, second = ids(tokenizer, sample.prompt), ids(tokenizer, f"{TOLD} {sample.prompt}")
        tokens, _ = reference.generate(model, first, second, 2.5, 48)
        assert reply(tokenizer, tokens) == sample.reply


def test_a_prefilled_reply_goes_on_from_the_same_beginning_in_both_prompts(ask):
    model, tokenizer = llama(), word_tokenizer(SYSTEM.replace("{{ eos_token }} ", ""))
    prompting = Prompting(TOLD, contrast=2.5)
    found = ask(model, prompting, ["small_world_prefilled"], tokenizer=tokenizer)
    assert {sample.prefix for sample in found} == {"yes , first"}
    for sample in found:
        first, second = (ids(tokenizer, text, sample.prefix) for text in (sample.prompt, f"{TOLD} {sample.prompt}"))
        tokens, _ = reference.generate(model, first, second, 2.5, 8)
        assert sample.reply.startswith(reply(tokenizer, tokens))


def likelihood_task(directory):
    """A task of lm-eval's own kind, whose documents have no `prompt`, and ask for likelihoods."""
    (directory / "rows.jsonl").write_text('{"q": "do i bake a cake"}\n{"q": "do i break a window"}\n')
    task = {
        "task": "yes_or_no",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(directory / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["yes", "no"],
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    (directory / "yes_or_no.yaml").write_text(yaml.safe_dump(task))
    return {"task_dirs": [directory], "batch_size": 2}


def test_likelihoods_are_asked_with_the_instruction_and_under_self_cd_without(tmp_path):
    model, tokenizer, settings = llama(), word_tokenizer(), likelihood_task(tmp_path)
    widths = []
    model.model.register_forward_hook(lambda m, args, kw, out: widths.append(kw["input_ids"].shape[1]) if "input_ids"
                                      in kw else widths.append(args[0].shape[1]), with_kwargs=True)  # fmt: skip
    seen = {}
    for name, prompting in (
        ("plain", None),
        ("instruction", Prompting(TOLD)),
        ("self_cd", Prompting(TOLD, contrast=2.5)),
    ):
        widths.clear()
        seen[name] = (evaluate(model, tokenizer, ["yes_or_no"], prompting=prompting, **settings), sum(widths))
    assert seen["self_cd"] == seen["plain"]
    assert seen["instruction"][1] > seen["plain"][1]
    # They count as the same prompts, so that rows can be compared.
    assert [sample.prompt for sample in seen["instruction"][0]] == [sample.prompt for sample in seen["plain"][0]]


def requests(lm, count=5):
    texts = [
        lm.apply_chat_template([{"role": "user", "content": "how do i bake " + "a cake " * n}]) for n in range(count)
    ]
    return [Instance("generate_until", {}, (text, GREEDY), 0, metadata=("task", n, 1)) for n, text in enumerate(texts)]


def test_what_was_said_under_another_prompting_is_not_taken_from_the_journal(tmp_path):
    found = {}
    for prompting in (
        None,
        Prompting(TOLD),
        Prompting(TOLD, contrast=2.5),
        Prompting(TOLD, contrast=1.5),
        Prompting("yes .", contrast=2.5),
    ):
        lm = InMemoryLM(llama(), word_tokenizer(), prompting=prompting, journal=Journal(tmp_path, "a", {}))
        found[prompting] = lm.generate_until(requests(lm))
        fresh = InMemoryLM(llama(), word_tokenizer(), prompting=prompting)
        assert found[prompting] == fresh.generate_until(requests(fresh))
    assert len({tuple(said) for said in found.values()}) == len(found)
    assert len(Journal(tmp_path, "a", {}).read()) == len(found)
    model = llama()
    model.register_forward_hook(lambda *_: (_ for _ in ()).throw(AssertionError("a forward")))
    lm = InMemoryLM(
        model, word_tokenizer(), prompting=Prompting(TOLD, contrast=2.5), journal=Journal(tmp_path, "a", {})
    )
    assert lm.generate_until(requests(lm)) == found[Prompting(TOLD, contrast=2.5)]


def test_two_prompts_count_as_two_rows_of_a_batch_and_the_longer_one_is_cut():
    lm = InMemoryLM(llama(), word_tokenizer(), prompting=Prompting(TOLD, contrast=2.5), max_length=24)
    asked = requests(lm)
    plain, second = (len(word_tokenizer()(text).input_ids) for text in (asked[0].args[0], lm._second(asked[0].args[0])))
    assert lm._requests("generate_until", asked)[0].width == plain + second + 2 * 8
    lm.truncated.clear()
    lm.generate_until(asked)  # whose longest plain prompt has room
    assert lm.truncated["task"] == 2


def test_a_system_message_of_a_task_keeps_its_text_behind_the_instruction():
    history = [{"role": "system", "content": "bake ."}, {"role": "user", "content": "how"}]
    assert Prompting("no .", "system").instructed(history) == [
        {"role": "system", "content": "no . bake ."},
        {"role": "user", "content": "how"},
    ]
    assert Prompting("no .", "system").instructed(history[1:])[0] == {"role": "system", "content": "no ."}
    turns = [history[1], {"role": "assistant", "content": "yes"}, history[1]]
    assert [m["content"] for m in Prompting("no .").instructed(turns)] == ["no . how", "yes", "how"]
    assert history[0]["content"] == "bake ."


@pytest.mark.parametrize("template", [DROPS, "{% for m in messages %}{% if m['role'] == 'system' %}"
                                      "{{ raise_exception('no system') }}{% endif %}{% endfor %}" + DROPS])  # fmt: skip
@pytest.mark.parametrize("contrast", [None, 2.5])
def test_a_template_that_drops_the_instruction_is_refused(ask, template, contrast):
    with pytest.raises(ModelError, match=r"(?s)does not write the instruction .*Set the role `user`"):
        ask(llama(), Prompting(TOLD, "system", contrast), tokenizer=word_tokenizer(template))
    ask(llama(), Prompting(TOLD, "user", contrast), tokenizer=word_tokenizer(template), limit=1)


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"contrast": 2.5}, "there is no `instruction`"),
        ({"instruction": TOLD, "contrast": float("nan")}, "`contrast` is nan"),
        ({"instruction": TOLD, "contrast": float("inf")}, "`contrast` is inf"),
        ({"instruction": "  "}, "nothing is said"),
    ],
)
def test_a_prompting_that_cannot_be_meant_is_refused(settings, fact):
    with pytest.raises(SettingError, match=fact):
        Prompting(**settings)


def test_prompts_that_came_by_another_way_than_the_template_are_refused():
    lm = InMemoryLM(llama(), word_tokenizer(), prompting=Prompting(TOLD, contrast=2.5))
    with pytest.raises(ModelError, match="Ask through the chat template"):
        lm.generate_until([Instance("generate_until", {}, ("how do i", GREEDY), 0, metadata=("task", 0, 1))])


def test_a_steered_model_may_be_contrasted_and_one_with_a_gate_is_refused(ask, monkeypatch):
    model = llama()
    with steer(model, artifact_for(model)):
        steered = ask(model)
        assert ask(model, Prompting(TOLD, contrast=1.0)) == steered
    monkeypatch.setattr("sa_lightning.evaluation.harness.in_memory.is_gated", lambda model: True)
    with pytest.raises(ModelError, match="A gate decides on one prompt"):
        ask(model, Prompting(TOLD, contrast=2.5))
