"""What a task of any kind gives for each document: a number, a verdict, or right and wrong."""

import json
import math
import warnings

import pytest
from support.judged import scripted
from support.lm_eval_tasks import write_task
from support.models import llama, word_tokenizer

from sa_lightning.errors import DataError, SaError
from sa_lightning.evaluation import Outcome, Verdict, evaluate, evaluate_lm
from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from sa_lightning.evaluation.tasks.catalogue import task_manager


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


def test_what_is_a_fraction_for_one_document_is_right_or_wrong_for_none(tmp_path):
    shared = {
        "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_target": "gold", "doc_to_choice": ["yes", "no"],
    }  # fmt: skip
    rows = [{"q": "a", "gold": 0, "share": share} for share in (1.0, 0.25)]
    for name, changes in (("mixed", {}), ("named", {"metadata": {"unit": "probability on true answers"}})):
        write_task(tmp_path, name, rows, **shared, metric_list=[{"metric": "acc"}], **changes)
        path = tmp_path / f"{name}.yaml"
        path.write_text(path.read_text() + "process_results: !function support.lm_eval_tasks.fraction\n")
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
    path.write_text(path.read_text() + "process_results: !function support.lm_eval_tasks.unjudged\n")
    first, second = evaluate_lm(scripted("yes"), ["wrapped"], task_dirs=[tmp_path])
    assert (first.category, first.cluster, first.attack, first.id) == ("cakes", "c1", "jailbreak", "x")
    assert (second.category, second.cluster, second.attack, second.id) == ("", "", "direct", "y")
    assert first.prompt == "do it"
    assert first.verdicts == {"unjudged": Verdict(Outcome.UNJUDGED)}  # as the function is called


def test_a_task_that_says_nothing_of_a_document_is_refused(tmp_path):
    decoding = {"until": [], "do_sample": False}
    metrics = [{"metric": "acc", "aggregation": "bypass"}]
    asked = {"output_type": "generate_until", "doc_to_text": "q", "doc_to_target": ""}
    write_task(tmp_path, "mute", [{"q": "a"}], **asked, generation_kwargs=decoding, metric_list=metrics)
    path = tmp_path / "mute.yaml"
    path.write_text(path.read_text() + "process_results: !function support.lm_eval_tasks.mute\n")
    with pytest.raises(SaError, match="nor whether it is right, nor a number"):
        evaluate_lm(scripted("yes"), ["mute"], task_dirs=[tmp_path])


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
