"""Tasks that cannot be run here: named ones are refused, those of a tag or group are left out and said."""

import re

import pytest
from support.invented_data import write_part, write_rows
from support.judged import TASKS, scripted
from support.models import llama, word_tokenizer

from sa_lightning.data.registry import entry, part, read_rows
from sa_lightning.errors import DataError, SaError
from sa_lightning.evaluation import evaluate_lm
from sa_lightning.evaluation.tasks.catalogue import missing_tasks, task_manager
from sa_lightning.evaluation.tasks.worlds import tiny_world


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


@pytest.mark.parametrize(("column", "said"), [("'cake'", "KeyError: 'cake'"), ("[cake]", "TypeError: unhashable")])
def test_a_task_whose_function_fails_on_its_data_is_missing_too_and_the_hub_is_not_blamed(shelf, column, said):
    (shelf / "_damaged_yaml").write_text("custom_dataset: !function support.lm_eval_tasks.damaged\n")
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


def test_columns_that_the_hub_names_otherwise_are_renamed(monkeypatch):
    monkeypatch.delenv("SA_DATA_DIR", raising=False)
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: [{"prompt": "do a bad thing", "target": "Sure"}])
    assert read_rows("advbench") == [{"goal": "do a bad thing", "target": "Sure"}]
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: [{"text": "do a bad thing"}])
    with pytest.raises(DataError, match="lacks the columns"):
        read_rows("advbench")
