"""Our model inside lm-eval: what it is asked, what comes back, and that it is left as it was."""

import json
import logging
import math
import re
import warnings

import pytest
import torch
import yaml
from conftest import llama, word_tokenizer
from support.invented_data import write_part, write_rows
from support.judged import TASKS, scripted, write_world

from sa_lightning.data.registry import entry, part, read_rows
from sa_lightning.errors import DataError, SaError
from sa_lightning.evaluation import Outcome, Verdict, evaluate, evaluate_lm, summarise
from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from sa_lightning.evaluation.tasks.catalogue import missing_tasks, task_manager
from sa_lightning.evaluation.tasks.worlds import tiny_world

ALL = ["tiny_world_harmful", "tiny_world_contrast", "tiny_world_facts"]


@pytest.fixture
def world(tmp_path):
    return write_world(tmp_path / "world")


@pytest.fixture
def ask(world):
    def run(model, tasks=ALL, **settings):
        settings = {"batch_size": 4, "seed": 0, "metadata": {"world": str(world)}, **settings}
        return evaluate(model, settings.pop("tokenizer", word_tokenizer()), tasks, task_dirs=[TASKS], **settings)

    return run


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


def test_a_tokenizer_that_adds_its_own_bos_does_not_double_it(ask):
    from tokenizers.processors import TemplateProcessing

    tokenizer = word_tokenizer()
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    bare = word_tokenizer()
    bare._tokenizer.post_processor = tokenizer._tokenizer.post_processor
    bare.chat_template = bare.chat_template.replace("{{ bos_token }}", "")  # the template alone decides
    model, counts = llama(), []
    model.get_input_embeddings().register_forward_hook(
        lambda m, args, out: counts.append(int((args[0] == 1).sum(1).max())) if args[0].shape[1] > 1 else None
    )
    ask(model, tokenizer=tokenizer)
    ask(model, tokenizer=bare)
    assert counts == [1] * (len(counts) // 2) + [0] * (len(counts) // 2)


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


def test_an_unknown_task_is_named_with_its_neighbours(monkeypatch, world):
    from sa_lightning.evaluation.tasks import catalogue

    cheap = catalogue._manager  # lm-eval's own index takes ten seconds; ours stands for it here
    monkeypatch.setattr(catalogue, "_manager", lambda dirs, meta, *, defaults: cheap(dirs, meta, defaults=False))
    with pytest.raises(SaError) as error:
        evaluate_lm(scripted("yes ."), ["tiny_world_harmfull"], task_dirs=[TASKS])
    assert "no task 'tiny_world_harmfull'. Did you mean tiny_world_harmful" in str(error.value)


def test_no_tasks_no_directory_no_template_and_no_room_are_refused(ask, world):
    with pytest.raises(SaError, match="no tasks to run"):
        evaluate_lm(scripted("yes"), [], task_dirs=[TASKS])
    with pytest.raises(SaError, match="does not exist"):
        evaluate_lm(scripted("yes"), ["tiny_world_harmful"], task_dirs=[world / "nowhere"])
    with pytest.raises(SaError, match="no chat template"):
        ask(llama(), tokenizer=word_tokenizer(template=None))
    with pytest.raises(SaError, match="48 new tokens, but the model's context is 40"):
        ask(llama(), max_length=40)


def test_a_world_must_be_named_and_built(tmp_path):
    with pytest.raises(DataError, match="which world"):
        tiny_world(kind="harmful")
    with pytest.raises(DataError, match="no built world"):
        tiny_world(kind="harmful", world=str(tmp_path))
    with pytest.raises(DataError, match="only validation and test"):
        tiny_world(kind="harmful", world=str(tmp_path), split="train")


@pytest.mark.parametrize("name", ["advbench", "xstest"])
def test_a_missing_data_set_names_both_ways_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("offline")))
    with pytest.raises(DataError) as error:
        read_rows(name)
    message = str(error.value)
    for fact in (f"$SA_DATA_DIR/{name}/", str(tmp_path), "Hugging Face Hub", "HF_HUB_OFFLINE", "offline"):
        assert fact in message
    assert not re.search(r"[.:][A-Z]", message.replace("ConnectionError: ", ""))


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
    assert [rate["rate"] for rate in found] == [attack, over, utility, degenerate]


def test_lm_evals_own_kinds_of_task_count_as_utility(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"q": "a", "gold": 0}\n{"q": "b", "gold": 1}\n')
    (tmp_path / "choice.yaml").write_text(
        "task: choice\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'data.jsonl'}}}, cache_dir: {tmp_path / 'cache'}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: gold\n"
        "doc_to_choice: ['yes', 'no']\nmetric_list: [{metric: acc}]\n"
    )
    samples = evaluate_lm(scripted(""), ["choice"], task_dirs=[tmp_path])
    assert [(sample.kind, sample.id, sample.correct) for sample in samples] == [
        ("utility", "0", True),
        ("utility", "1", False),
    ]
    assert evaluate(llama(), word_tokenizer(), ["choice"], task_dirs=[tmp_path])[0].outcome is None


def write_task(directory, name, rows, **settings):
    """A task of lm-eval's own kind, over rows of our own."""
    (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(directory / f"{name}.jsonl")}, "cache_dir": str(directory / "cache"),
        },
        "test_split": "test",
        **settings,
    }  # fmt: skip
    (directory / f"{name}.yaml").write_text(yaml.safe_dump(settings))


PERPLEXITY = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "text",
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
}


def test_perplexity_is_that_of_lm_eval(tmp_path):
    import lm_eval

    write_task(tmp_path, "prose", [{"text": "bake a cake"}, {"text": "first break , then bake ."}], **PERPLEXITY)
    write_task(tmp_path, "bits", [{"text": "bake a cake"}, {"text": "yes"}],
               **{**PERPLEXITY, "metric_list": PERPLEXITY["metric_list"][2:]})  # fmt: skip
    model = llama()
    samples = evaluate(model, word_tokenizer(), ["prose", "bits"], task_dirs=[tmp_path])
    lm = InMemoryLM(model, word_tokenizer(), add_bos_token=False)
    manager = task_manager(["prose", "bits"], [tmp_path])
    theirs = lm_eval.simple_evaluate(model=lm, tasks=["prose", "bits"], task_manager=manager, bootstrap_iters=0)
    for task, metric, unit in (
        ("prose", "word_perplexity", "word perplexity"),
        ("bits", "bits_per_byte", "bits per byte"),
    ):
        scores = [sample.score for sample in samples if sample.task == task]
        assert {score.unit for score in scores} == {unit}
        mean = sum(score.total for score in scores) / sum(score.weight for score in scores)
        found = math.exp(mean) if unit.endswith("perplexity") else mean
        assert found == pytest.approx(theirs["results"][task][f"{metric},none"], rel=1e-6)
    assert [sample.score.weight for sample in samples if sample.task == "prose"] == [3, 6]
    assert all(sample.correct is None and sample.outcome is None for sample in samples)


def fraction(doc, results):
    return {"acc": doc["share"]}


def test_what_is_a_fraction_for_one_document_is_right_or_wrong_for_none(tmp_path):
    shared = {
        "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_target": "gold", "doc_to_choice": ["yes", "no"],
    }  # fmt: skip
    rows = [{"q": "a", "gold": 0, "share": share} for share in (1.0, 0.25)]
    for name, changes in (("mixed", {}), ("named", {"metadata": {"unit": "probability on true answers"}})):
        write_task(tmp_path, name, rows, **shared, metric_list=[{"metric": "acc"}], **changes)
        path = tmp_path / f"{name}.yaml"
        path.write_text(path.read_text() + "process_results: !function evaluation.harness.test_harness.fraction\n")
    (tmp_path / "named.jsonl").write_text(json.dumps(rows[0]) + "\n")
    samples = evaluate_lm(scripted(""), ["mixed", "named"], task_dirs=[tmp_path])
    assert [(sample.correct, tuple(sample.score)) for sample in samples] == [
        (None, (1.0, 1.0, "acc")),
        (None, (0.25, 1.0, "acc")),
        (None, (1.0, 1.0, "probability on true answers")),
    ]


def test_category_cluster_and_attack_are_the_documents(tmp_path):
    judged = {
        "output_type": "generate_until",
        "doc_to_text": "asked",
        "doc_to_target": "",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 4},
        "metric_list": [{"metric": outcome.value, "aggregation": "mean"} for outcome in Outcome],
    }
    known = {"id": "x", "kind": "harmful", "prompt": "do it", "asked": "please do it"}
    rows = [{**known, "category": "cakes", "cluster": "c1", "attack": "jailbreak"}, {**known, "id": "y"}]
    write_task(tmp_path, "wrapped", rows, **judged)
    path = tmp_path / "wrapped.yaml"
    path.write_text(path.read_text() + "process_results: !function evaluation.harness.test_harness.unjudged\n")
    first, second = evaluate_lm(scripted("yes"), ["wrapped"], task_dirs=[tmp_path])
    assert (first.category, first.cluster, first.attack, first.id) == ("cakes", "c1", "jailbreak", "x")
    assert (second.category, second.cluster, second.attack, second.id) == ("", "", "direct", "y")
    assert first.prompt == "do it"
    # What the function gives lm-eval is not read: the judge that it names is asked.
    assert first.verdicts == {"phrases.gcg": Verdict(Outcome.COMPLIED)}
    assert first.outcome is Outcome.COMPLIED


def test_a_task_with_outcomes_for_metrics_and_no_judge_is_refused_before_anything_is_asked(tmp_path):
    asked = {"output_type": "generate_until", "doc_to_text": "q", "doc_to_target": ""}
    metrics = [{"metric": "complied", "aggregation": "mean"}]
    write_task(tmp_path, "own", [{"q": "a", "id": "x", "kind": "harmful"}], **asked, metric_list=metrics)
    with pytest.raises(SaError, match="own has the metrics complied, but its `process_results` names no judge"):
        evaluate_lm(scripted(lambda prompt: pytest.fail("asked")), ["own"], task_dirs=[tmp_path])


def unjudged(doc, results):
    return {outcome.value: float(outcome is Outcome.UNJUDGED) for outcome in Outcome}


unjudged.judge = "phrases.gcg"


def test_a_task_that_says_nothing_of_a_document_is_refused(tmp_path):
    decoding = {"until": [], "do_sample": False}
    metrics = [{"metric": "acc", "aggregation": "bypass"}]
    asked = {"output_type": "generate_until", "doc_to_text": "q", "doc_to_target": ""}
    write_task(tmp_path, "mute", [{"q": "a"}], **asked, generation_kwargs=decoding, metric_list=metrics)
    path = tmp_path / "mute.yaml"
    path.write_text(path.read_text() + "process_results: !function evaluation.harness.test_harness.mute\n")
    with pytest.raises(SaError, match="nor whether it is right, nor a number"):
        evaluate_lm(scripted("yes"), ["mute"], task_dirs=[tmp_path])


def mute(doc, results):
    return {"acc": "well"}


@pytest.fixture
def shelf(tmp_path):
    """A tag and groups of tasks, one of which has no data, and one of which asks for too much."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    choice = {
        "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_target": "gold", "doc_to_choice": ["yes", "no"],
        "metric_list": [{"metric": "acc"}], "tag": "shelf",
    }  # fmt: skip
    rows = [{"q": "a", "gold": 0}, {"q": "b", "gold": 1}, {"q": "c", "gold": 1}]
    write_task(tasks, "here", rows, **choice)
    long = {"output_type": "generate_until", "generation_kwargs": {"until": [], "max_gen_toks": 900}}
    write_task(tasks, "long", rows, **{**choice, **long, "doc_to_choice": None})
    (tasks / "gone.yaml").write_text(
        "task: gone\ntag: shelf\noutput_type: multiple_choice\ntest_split: test\n"
        "custom_dataset: !function evaluation.harness.test_harness.nowhere\ndoc_to_text: q\ndoc_to_target: gold\n"
        "doc_to_choice: ['yes', 'no']\nmetric_list: [{metric: acc}]\n"
    )
    (tasks / "inner.yaml").write_text("group: inner\ntask: [gone, {task: here, num_fewshot: 1, fewshot_split: test}]\n")
    (tasks / "outer.yaml").write_text("group: outer\ntask: [long, inner]\n")
    (tasks / "empty.yaml").write_text("group: empty\ntask: [gone]\n")
    (tasks / "both.yaml").write_text("group: both\ntask: [empty, here]\n")
    return tasks


def nowhere(**metadata):
    raise DataError("The data set gone is not at hand. Two ways to get it:\n  1. bake it\n  2. break it")


def test_what_a_tag_or_group_names_and_is_not_at_hand_is_left_out_and_said(shelf):
    for name, left_out in (("shelf", {"gone", "long"}), ("outer", {"gone", "long"}), ("both", {"gone"})):
        missing = missing_tasks([name], [shelf], max_length=600)
        assert missing.keys() == left_out
        assert "2. break it" in missing["gone"]
        if "long" in left_out:
            assert "up to 900 new tokens, but the model's context is 600" in missing["long"]
        samples = evaluate_lm(scripted(""), [name], task_dirs=[shelf], without=missing)
        assert {sample.task for sample in samples} == {"here"}
        assert len(samples) == 3
    assert missing_tasks(["shelf"], [shelf]).keys() == {"gone"}  # where no length is known, there is room
    assert missing_tasks(["here"], [shelf], max_length=600) == {}


def test_the_settings_of_a_group_survive_what_it_lacks(shelf):
    manager = task_manager(["outer"], [shelf], None, ["gone", "long"])
    assert {name: task.config.num_fewshot for name, task in manager.load(["outer"])["tasks"].items()} == {"here": 1}
    assert set(task_manager(["shelf"], [shelf]).task_index["shelf"].tags) == {"gone", "here", "long"}  # as it was


def test_what_is_named_itself_must_be_at_hand(shelf):
    with pytest.raises(DataError, match="bake it"):
        missing_tasks(["here", "gone"], [shelf])
    with pytest.raises(SaError, match="900 new tokens"):
        missing_tasks(["long"], [shelf], max_length=600)
    with pytest.raises(DataError, match="None of the 1 tasks of empty can be run here") as error:
        missing_tasks(["empty"], [shelf])
    assert "2. break it" in str(error.value)


def test_a_task_of_the_hub_that_cannot_be_reached_is_missing_too(shelf):
    (shelf / "far.yaml").write_text(
        "task: far\ntag: shelf\noutput_type: multiple_choice\ntest_split: test\ndataset_path: nobody/no-such-set\n"
        "doc_to_text: q\ndoc_to_target: gold\ndoc_to_choice: ['yes', 'no']\nmetric_list: [{metric: acc}]\n"
    )
    missing = missing_tasks(["shelf"], [shelf])
    assert "Hugging Face Hub" in missing["far"]
    with pytest.raises(DataError, match="far could not be loaded"):
        missing_tasks(["far"], [shelf])


def damaged(**metadata):
    return {}[metadata["column"]]


@pytest.mark.parametrize(("column", "said"), [("'cake'", "KeyError: 'cake'"), ("[cake]", "TypeError: unhashable")])
def test_a_task_whose_function_fails_on_its_data_is_missing_too_and_the_hub_is_not_blamed(shelf, column, said):
    (shelf / "_damaged_yaml").write_text("custom_dataset: !function evaluation.harness.test_harness.damaged\n")
    (shelf / "bad.yaml").write_text(
        f"include: _damaged_yaml\ntask: bad\ntag: shelf\noutput_type: multiple_choice\ntest_split: test\n"
        f"doc_to_text: q\ndoc_to_target: gold\ndoc_to_choice: ['yes', 'no']\nmetric_list: [{{metric: acc}}]\n"
        f"metadata: {{column: {column}}}\n"
    )
    missing = missing_tasks(["shelf"], [shelf])
    assert missing["bad"].startswith(f"bad could not be loaded: {said}")
    assert "Hub" not in missing["bad"]
    with pytest.raises(DataError, match="bad could not be loaded"):
        missing_tasks(["bad"], [shelf])


def test_malformed_rows_and_too_few_demonstrations_are_left_out_under_a_group(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    for name in ("gsm8k", "winogrande", "hellaswag"):
        for which in entry(name).parts:
            write_part(tmp_path, name, part(name, which), n=4 if which == "train" else 6)
    rows = [{"sentence": "The _.", "option1": "a", "option2": "b", "answer": answer} for answer in "123"]
    write_rows(tmp_path / "winogrande" / "dev.jsonl", rows)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "few.yaml").write_text("group: few\ntask: [sa_gsm8k, sa_winogrande, sa_hellaswag]\n")
    directories = [TASKS, tmp_path / "tasks"]
    missing = missing_tasks(["few"], directories)
    assert missing.keys() == {"sa_gsm8k", "sa_winogrande"}
    assert missing["sa_winogrande"].startswith("Row 3 of winogrande cannot be read")
    assert "sa_gsm8k gives 5 demonstrations, but its data hold 4" in missing["sa_gsm8k"]
    for name in missing:
        with pytest.raises(DataError):
            missing_tasks([name], directories)
    write_part(tmp_path, "gsm8k", part("gsm8k", "train"), n=5)
    assert missing_tasks(["sa_gsm8k"], directories) == {}
    assert len(evaluate_lm(scripted(""), ["sa_gsm8k"], task_dirs=directories, limit=2)) == 2


@pytest.mark.parametrize(("shots", "enough"), [(2, True), (3, False)])
def test_a_document_is_no_demonstration_of_itself(shelf, shots, enough):
    (shelf / "shots.yaml").write_text(
        f"group: shots\ntask: [{{task: here, num_fewshot: {shots}, fewshot_split: test}}]\n"
    )
    if enough:
        assert len(evaluate_lm(scripted(""), ["shots"], task_dirs=[shelf])) == 3
    else:
        with pytest.raises(DataError, match="here gives 3 demonstrations, but its data hold 3"):
            evaluate_lm(scripted(""), ["shots"], task_dirs=[shelf])


def test_a_task_in_two_groups_is_run_once_and_other_settings_are_said(shelf):
    without = ["gone", "long"]
    with pytest.warns(UserWarning, match="here is run once, as named first, not with the settings of inner"):
        samples = evaluate_lm(scripted(""), ["both", "inner"], task_dirs=[shelf], without=without)
    assert len(samples) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = evaluate_lm(scripted(""), ["shelf", "here", "both"], task_dirs=[shelf], without=without)
    assert len(samples) == 3


def test_prompts_that_lose_their_beginning_are_said(ask):
    with pytest.warns(UserWarning, match="context of 60 tokens lose their beginning: 1 of tiny_world_harmful"):
        ask(llama(), ["tiny_world_harmful"], max_length=60)


def test_every_process_of_a_launcher_gets_its_own_samples(world, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    metadata = {"world": str(world)}
    assert len(evaluate_lm(scripted("yes ."), ["tiny_world_facts"], task_dirs=[TASKS], metadata=metadata)) == 3


def test_columns_that_the_hub_names_otherwise_are_renamed(monkeypatch):
    monkeypatch.delenv("SA_DATA_DIR", raising=False)
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: [{"prompt": "do a bad thing", "target": "Sure"}])
    assert read_rows("advbench") == [{"goal": "do a bad thing", "target": "Sure"}]
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: [{"text": "do a bad thing"}])
    with pytest.raises(DataError, match="lacks the columns"):
        read_rows("advbench")
