"""`--safe`, YAML within limits, and templates of tasks in a sandbox."""

import pytest
from jinja2.exceptions import SecurityError

from sa_lightning.cli.common.first_words import first_look
from sa_lightning.errors import DataError, SettingError
from sa_lightning.evaluation.tasks import foreign
from sa_lightning.foreign.files import check_yaml, is_safe, read_yaml, safely

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
NEEDED = ["--model.target", "m", "--data.demonstrations", "p", "--output", "o"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "behind aliases"),
        ("a: &a [*a]", "holds itself"),
        ("a: " + "[" * 200 + "]" * 200, "levels deep"),
        ("#" * (9 << 20), "more than 8 MiB"),
        ("a: " + "9" * 6000, "cannot be read"),
        ("a: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
    ids=["bomb", "itself", "deep", "large", "number", "object"],
)
def test_yaml_that_would_cost_minutes_is_refused(tmp_path, text, why):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=why):
        read_yaml(path, "The config")


def test_aliases_and_merges_of_a_usual_size_are_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("x: &x {a: 1}\ny: *x\nz: {<<: *x, b: 2}\n")
    assert read_yaml(path, "The config") == {"x": {"a": 1}, "y": {"a": 1}, "z": {"a": 1, "b": 2}}
    check_yaml(path)


def test_safe_refuses_code_of_models_and_files_of_settings(tmp_path):
    config = tmp_path / "c.yaml"
    for text, why in (("model: {trust_remote_code: true}", "trust_remote_code"), ("trainer: t.yaml", "names a file")):
        config.write_text(text)
        with safely(), pytest.raises(SettingError, match=why):
            first_look("fit", [*NEEDED, "--config", str(config)])
        assert not is_safe()
        assert first_look("fit", [*NEEDED, "--config", str(config)]) is None
    with safely(), pytest.raises(SettingError, match="runs code of others"):
        first_look("lm-eval", ["run", "--trust_remote_code"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("dataset_path: someone/data", "takes its data"),
        ("metric_list: [{metric: someones_metric}]", "metric"),
        ("task: [{task: a, metric_list: [{metric: acc, hf_evaluate: true}]}]", "hf_evaluate"),
        ("include: ../out.yaml", "include"),
    ],
)
def test_safe_refuses_what_a_task_would_run_or_fetch(tmp_path, text, why):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "t.yaml").write_text(f"{text}\n")
    (tmp_path / "out.yaml").write_text("dataset_path: json\n")
    foreign.check_directories([str(tmp_path / "tasks")])
    with safely(), pytest.raises(SettingError, match=why):
        foreign.check_directories([str(tmp_path / "tasks")])


def test_safe_imports_functions_of_ours_alone(tmp_path):
    from lm_eval.tasks import _yaml_loader

    foreign.hold_back()
    (tmp_path / "mine.py").write_text("def f(doc):\n    return 'mine'\n")
    assert _yaml_loader._import_func_in_yml("mine.f", tmp_path)({}) == "mine"
    ours = "sa_lightning.evaluation.judges.registry.process_refusal"
    with safely():
        assert callable(_yaml_loader._import_func_in_yml(ours, tmp_path))
        for name in ("mine.f", "os.system", "sa_lightning.evaluation.tasks.foreign.Path", "sa_lightning.files.shutil"):
            with pytest.raises(SettingError, match="names the function"):
                _yaml_loader._import_func_in_yml(name, tmp_path)


def test_templates_of_tasks_are_sandboxed_with_and_without_safe():
    from lm_eval import utils

    foreign.hold_back()
    assert utils.apply_template("{{ a }} {{ a | regex_replace('x', 'y') }}\n", {"a": "x"}) == "x y\n"
    with pytest.raises(SecurityError):
        utils.apply_template("{{ cycler.__init__.__globals__.os.getcwd() }}", {})
    with pytest.raises(DataError, match="not used"):
        utils.apply_template("{{ a | regex_replace('(a+)+$', '') }}", {"a": "aaa"})


def test_patterns_of_tasks_are_looked_at(tmp_path):
    (tmp_path / "t.yaml").write_text("filter_list: [{filter: [{function: regex, regex_pattern: '(a+)+$'}]}]\n")
    with pytest.raises(DataError, match="is not used"):
        foreign.check_directories([str(tmp_path)])
