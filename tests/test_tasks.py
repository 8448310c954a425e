"""Every task in tasks/ loads, scores three documents with a scripted model, and is described."""

import re
from pathlib import Path

import pytest
from support.invented_data import SUBJECTS, write_everything
from support.judged import TASKS, add_definitions, scripted, write_world
from support.real import real

from sa_lightning.data import registry
from sa_lightning.data.layouts import LAYOUTS
from sa_lightning.data.table import DATASETS
from sa_lightning.data.task_table import renewed
from sa_lightning.evaluation import Outcome, evaluate_lm
from sa_lightning.evaluation.tasks.utility import mmlu


def config(path: Path) -> dict:
    from lm_eval.tasks._yaml_loader import load_yaml

    return load_yaml(path, resolve_func=False)


OWN = TASKS.parent / "configs" / "quickstart" / "measure.jsonl"
FACTS = TASKS.parent / "configs" / "facts" / "common.jsonl"
CONFIGS = {path: config(path) for path in sorted(TASKS.rglob("*.yaml"))}
TASK_FILES = {found["task"]: path for path, found in CONFIGS.items() if "group" not in found}
GROUPS = {found["group"]: found for found in CONFIGS.values() if "group" in found}
JUDGED = {name for name, path in TASK_FILES.items() if "unjudged" in str(CONFIGS[path]["metric_list"])}
# Everything but 54 of the 57 subjects of MMLU, which differ in a name.
TRIED = [name for name in TASK_FILES if name not in SUBJECTS[3:]]
REAL_N = {task: n for row in DATASETS.values() for task, n in row.tasks.items()}


@pytest.fixture(scope="module")
def written(smol_world, tmp_path_factory):
    root = write_everything(tmp_path_factory.mktemp("data"))
    add_definitions(write_world(root / "world", n=4), n=4)
    (root / "smol").symlink_to(smol_world)
    return root


def ask(data, tasks, reply="Sorry, I cannot help.", **settings):
    world = "smol" if tasks[0].startswith("smol_world") else "world"
    metadata = {"world": str(data / world), "prompts": str(OWN), "facts": str(FACTS), **settings.pop("metadata", {})}
    return evaluate_lm(scripted(reply), tasks, task_dirs=[TASKS], metadata=metadata, **settings)


@pytest.fixture(scope="module")
def samples(written):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SA_DATA_DIR", str(written))
        smol = [name for name in TRIED if name.startswith("smol_world")]
        found = ask(written, [name for name in TRIED if name not in smol], limit=3) + ask(written, smol, limit=3)
    return {name: [sample for sample in found if sample.task == name] for name in TRIED}


@pytest.mark.parametrize("name", TRIED)
def test_a_task_loads_and_scores_three_documents(name, samples):
    found = samples[name]
    assert 2 <= len(found) <= 3  # the smallest stand-ins have two documents of a kind
    assert len({sample.id for sample in found}) == len(found)
    assert all(sample.prompt and sample.attack in ("direct", "jailbreak", "prefill") for sample in found)
    if name in JUDGED and "dataset" in CONFIGS[TASK_FILES[name]]["metadata"]:
        assert {sample.kind for sample in found} == {CONFIGS[TASK_FILES[name]]["metadata"]["kind"]}
    if name in JUDGED:
        assert all(sample.outcome is Outcome.REFUSED and sample.correct is None for sample in found)
    else:
        assert {sample.kind for sample in found} == {"utility"}
        assert all((sample.correct is None) != (sample.score is None) for sample in found)


def test_of_equally_likely_answers_the_first_is_taken_and_scored_exactly(samples):
    right = {name: [sample.correct for sample in found] for name, found in samples.items()}
    for name in (*SUBJECTS[:3], "sa_arc_easy", "sa_arc_challenge", "sa_hellaswag"):
        assert right[name] == [True, False, False]  # the right answers are A, B, C
    assert right["sa_winogrande"] == [True, False, True]
    assert right["sa_truthfulqa_mc1"] == right["sa_hh_harmless"] == [True, True, True]
    assert [s.score.total for s in samples["sa_truthfulqa_mc2"]] == pytest.approx([2 / 3] * 3)
    assert [s.score.total for s in samples["sa_wikitext2"]] == [0.0] * len(samples["sa_wikitext2"])
    assert right["sa_gsm8k"] == [False, False, False]


def test_a_model_that_knows_its_sums_is_right(data):
    found = ask(data, ["sa_gsm8k"], lambda prompt: "It is.\n#### " + re.findall(r"question (\d+)", prompt)[-1])
    assert [sample.correct for sample in found] == [True] * 8


@pytest.mark.parametrize("name", sorted(set(GROUPS) - {"sa_utility_hub", "sa_paper", "sa_utility"}))
def test_a_group_runs_all_of_its_tasks(name, data):
    found = {sample.task for sample in ask(data, [name], limit=1)}
    assert found == {
        "sa_xstest": {"sa_xstest_safe", "sa_xstest_unsafe"},
        "sa_mmlu": set(SUBJECTS),
    }.get(name, {s for s in SUBJECTS if CONFIGS[TASK_FILES[s]]["tag"] == f"{name}_tasks"})


def test_the_groups_of_mmlu_are_lm_evals():
    from lm_eval import tasks

    theirs = Path(tasks.__file__).parent / "mmlu" / "default"
    assert len(SUBJECTS) == 57
    for subject in SUBJECTS:
        ours, own = CONFIGS[TASK_FILES[subject]], config(theirs / f"{subject.removeprefix('sa_')}.yaml")
        assert ours["description"] == own["description"]
        assert ours["tag"] == f"sa_{own['tag']}"
        assert ours["metadata"]["subject"] == own["dataset_name"]


def test_the_papers_demonstrations_are_given(data):
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    loaded = manager.load(["sa_paper"])["tasks"]
    shots = {name: task.config.num_fewshot for name, task in loaded.items()}
    assert {shots[subject] for subject in SUBJECTS} == {5}
    assert shots["sa_gsm8k"] == 8
    assert {shots[name] for name in ("sa_advbench", "sa_truthfulqa_mc1", "sa_hexphi", "sa_xstest_safe")} == {0}
    text = loaded["sa_mmlu_anatomy"].fewshot_context(loaded["sa_mmlu_anatomy"].eval_docs[0], 5)
    assert text.count("Answer:") == 6


def test_groups_name_tasks_that_there_are_and_none_aggregates_mixed_directions():
    from lm_eval import tasks

    theirs = {path.stem for path in Path(tasks.__file__).parent.rglob("*.yaml")} | {"mmlu", "winogrande"}
    known = set(TASK_FILES) | set(GROUPS) | {tag for c in CONFIGS.values() for tag in [c.get("tag")] if tag}
    for name, group in GROUPS.items():
        members = [m if isinstance(m, str) else m.get("task", m.get("group")) for m in group["task"]]
        assert set(members) <= (theirs if name == "sa_utility_hub" else known)
        assert ("aggregate_metric_list" in group) == name.startswith("sa_mmlu")


def test_tags_have_the_members_that_their_table_says():
    tagged = {}
    for name, path in TASK_FILES.items():
        tagged.setdefault(CONFIGS[path].get("tag"), set()).add(name)
    kinds = {
        tag: {CONFIGS[TASK_FILES[name]]["metadata"].get("kind") for name in names & JUDGED}
        for tag, names in tagged.items()
    }
    assert kinds["sa_harm"] == {"harmful"}
    assert kinds["sa_oversafety"] == {"borderline", "harmless"}
    assert tagged["sa_anchors"] == {
        "sa_repe_harmful", "sa_repe_harmless", "sa_dro_harmful", "sa_dro_harmless", "sa_hh_harmless",
    }  # fmt: skip
    text = (TASKS / "README.md").read_text()
    assert all(f"`{tag}`" in text for tag in tagged if tag and "mmlu" not in tag)
    assert all(f"`{name}`" in text for name in GROUPS if "mmlu" not in name)


# How the files are written.


@pytest.mark.parametrize("name", sorted(JUDGED | {"sa_gsm8k"}))
def test_a_task_that_generates_is_greedy_and_states_where_it_stops(name):
    decoding = CONFIGS[TASK_FILES[name]]["generation_kwargs"]
    assert decoding["do_sample"] is False
    assert decoding["temperature"] == 0.0
    assert decoding["max_gen_toks"] > 0
    assert decoding["until"] == (
        [] if name in JUDGED or name.startswith("sa_facts") else ["Question:", "</s>", "<|im_end|>"]
    )


@pytest.mark.parametrize("name", sorted(TASK_FILES))
def test_a_task_names_its_data_and_which_way_is_better(name):
    found = CONFIGS[TASK_FILES[name]]
    assert TASK_FILES[name].stem == name
    assert "sa_lightning.evaluation." in found["custom_dataset"]
    better = {metric["metric"]: metric["higher_is_better"] for metric in found["metric_list"]}
    assert all("aggregation" in metric for metric in found["metric_list"])
    if name.startswith(("tiny_world", "small_world", "smol_world", "own", "sa_facts")):
        return
    metadata = found["metadata"]
    assert metadata["version"] == 1.0
    for part in metadata.get("parts", [None]):
        registry.part(metadata["dataset"], part)
    if name in JUDGED:
        harmful = metadata["kind"] == "harmful"
        assert (better["complied"], better["refused"]) == (not harmful, harmful)
        assert metadata["dataset"] in LAYOUTS


def test_every_layout_and_every_set_of_harm_has_a_task():
    asked = {CONFIGS[path]["metadata"].get("dataset") for path in TASK_FILES.values()}
    assert set(LAYOUTS) <= asked
    assert {name for name in registry.names() if registry.entry(name).kind == "utility"} - {"mt_bench"} <= asked


@pytest.mark.parametrize("folder", sorted({path.parent for path in CONFIGS}), ids=lambda path: path.name)
def test_a_benchmark_has_a_readme_with_paper_licence_n_and_metric(folder: Path):
    text = (folder / "README.md").read_text()
    for fact in ("**Paper**", "**Licence**", "**n**", "etric", "better"):
        assert fact in text
    for path in folder.glob("sa_*.yaml"):
        assert path.stem in text or path.stem in SUBJECTS
    for dataset in {CONFIGS[path].get("metadata", {}).get("dataset") for path in folder.glob("sa_*.yaml")} - {None}:
        assert registry.entry(dataset).paper in text
        assert registry.entry(dataset).licence in text


def test_the_row_of_a_data_set_names_its_tasks():
    asked = {}
    for name in set(TASK_FILES) - set(SUBJECTS):
        if dataset := CONFIGS[TASK_FILES[name]].get("metadata", {}).get("dataset"):
            asked.setdefault(dataset, set()).add(name)
    asked["mmlu"] = {"sa_mmlu"}  # the group of its subjects
    assert {name: set(row.tasks) for name, row in DATASETS.items() if row.tasks} == asked


def test_the_table_of_tasks_is_that_of_the_rows_and_their_own_pages_have_its_numbers():
    page = (TASKS / "README.md").read_text()
    assert page == renewed(page), "python -m sa_lightning.data.task_table"
    assert "| `xstest` | `sa_xstest_safe` 250, `sa_xstest_unsafe` 200 | mixed | CC-BY-4.0 |" in page
    for name in set(REAL_N) - {"sa_mmlu"}:
        text = (TASK_FILES[name].parent / "README.md").read_text()
        assert re.search(rf"\b{REAL_N[name]}\b", text.partition("**n**")[2]), name


def test_tasks_hold_no_python():
    assert not list(TASKS.rglob("*.py"))


def test_plain_lm_eval_reports_the_tasks_own_metrics(data):
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=scripted("Sorry, I cannot help."), tasks=["sa_xstest"], task_manager=manager, bootstrap_iters=0
    )
    for name, better in (("sa_xstest_safe", False), ("sa_xstest_unsafe", True)):
        metrics = found["results"][name]
        assert [metrics[f"{outcome.value},none"] for outcome in Outcome] == [0, 1, 0, 0, 0]
        assert found["higher_is_better"][name]["refused"] is better
    assert not [key for key in found["results"]["sa_xstest"] if key.endswith(",none")]


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(set(REAL_N) - {"sa_mmlu"}))
def test_a_task_whose_data_are_at_hand_has_all_of_its_documents(name):
    from lm_eval.tasks import TaskManager

    real("SA_DATA_DIR")
    metadata = CONFIGS[TASK_FILES[name]]["metadata"]
    if registry.where(metadata["dataset"], *metadata.get("parts", ())) == "missing":
        pytest.skip(f"{metadata['dataset']} is not at hand")
    task = TaskManager(include_path=str(TASKS), include_defaults=False).load([name])["tasks"][name]
    assert len(task.eval_docs) == REAL_N[name]
    assert len(set(task.eval_docs["id"])) == REAL_N[name]
    assert all(task.eval_docs["prompt"])


@pytest.mark.real
def test_all_subjects_of_mmlu_are_at_hand():
    real("SA_DATA_DIR", "mmlu", "mmlu_test")
    sizes = {s: mmlu(subject=s.removeprefix("sa_mmlu_")) for s in SUBJECTS}
    assert sum(len(found["test"]) for found in sizes.values()) == REAL_N["sa_mmlu"]
    assert {len(found["dev"]) for found in sizes.values()} == {5}
