"""A world, and a model that is asked about it."""

import pytest
from support.judged import TASKS, write_world
from support.lm_eval_tasks import ALL, write_task
from support.models import word_tokenizer

from sa_lightning.evaluation import evaluate


@pytest.fixture
def world(tmp_path):
    return write_world(tmp_path / "world")


@pytest.fixture
def ask(world):
    def run(model, tasks=ALL, **settings):
        settings = {"batch_size": 4, "seed": 0, "metadata": {"world": str(world)}, **settings}
        return evaluate(model, settings.pop("tokenizer", word_tokenizer()), tasks, task_dirs=[TASKS], **settings)

    return run


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
        "custom_dataset: !function support.lm_eval_tasks.nowhere\ndoc_to_text: q\ndoc_to_target: gold\n"
        "doc_to_choice: ['yes', 'no']\nmetric_list: [{metric: acc}]\n"
    )
    (tasks / "inner.yaml").write_text("group: inner\ntask: [gone, {task: here, num_fewshot: 1, fewshot_split: test}]\n")
    (tasks / "outer.yaml").write_text("group: outer\ntask: [long, inner]\n")
    (tasks / "empty.yaml").write_text("group: empty\ntask: [gone]\n")
    (tasks / "both.yaml").write_text("group: both\ntask: [empty, here]\n")
    return tasks
