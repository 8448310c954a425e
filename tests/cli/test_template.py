"""Template arguments reach every prompt, the artifact knows its template, and another one is told or refused."""

import json
import warnings

import pytest
from support.lm_eval_tasks import write_bakery
from support.models import CHAT_TEMPLATE, artifact_for, llama, saved, word_tokenizer

from sa_lightning import SteeringArtifact
from sa_lightning.cli import main
from sa_lightning.errors import ArtifactError
from sa_lightning.export.lm_eval_model import SafetyLM
from sa_lightning.models import load_tokenizer, passage, render, template_tail
from sa_lightning.steering import FittedGate, GateSettings
from sa_lightning.steering.template import check_template

# Like templates of models that think: what stands before the reply depends on an argument.
THINKING = CHAT_TEMPLATE.replace(
    "<assistant>{% endif %}", "<assistant>{% if not thinking %} no .{% endif %}{% endif %}"
)
THOUGHTLESS, THOUGHTFUL = " <assistant> no .", " <assistant>"
QUESTION = [{"role": "user", "content": "bake a cake"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved(llama(), tmp_path_factory.mktemp("thinking"), word_tokenizer(THINKING))


@pytest.fixture(scope="module")
def fitted(model, demonstrations, tmp_path_factory):
    """An artifact that was fitted with thoughts on."""
    output = tmp_path_factory.mktemp("fit") / "out"
    main(["fit", "--model.target", str(model), "--model.template_arguments", "{thinking: true}",
          "--data.demonstrations", str(demonstrations), "--output", str(output),
          "--steering.strength", "0.12", "--trainer.accelerator", "cpu"])  # fmt: skip
    return output / "artifact"


def test_arguments_reach_every_prompt_and_the_place_before_the_reply(model):
    plain, told = load_tokenizer(str(model)), load_tokenizer(str(model), arguments={"thinking": True})
    assert render(plain, QUESTION) == f"<bos><user> bake a cake{THOUGHTLESS}"
    assert render(told, QUESTION) == f"<bos><user> bake a cake{THOUGHTFUL}"
    assert (template_tail(plain), template_tail(told)) == (THOUGHTLESS, THOUGHTFUL)
    assert template_tail(told, {}) == THOUGHTLESS
    assert passage(plain, QUESTION, "end_of_prompt").ids == [*passage(told, QUESTION, "end_of_prompt").ids, 17, 19]


def test_a_template_that_drops_or_doubles_the_words_of_the_user_shows_no_tail():
    assert template_tail(word_tokenizer("{% for m in messages %}{{ m['role'] }}{% endfor %}")) is None
    assert template_tail(word_tokenizer("{% for m in messages %}{{ m['content'] * 2 }}{% endfor %}")) is None


def test_an_artifact_records_the_arguments_and_the_tail_and_one_of_before_has_no_such_key(fitted, tmp_path):
    config = json.loads((fitted / "sa_config.json").read_text())
    assert (config["template"], config["template_arguments"], config["template_tail"]) == (
        *("chat", {"thinking": True}, THOUGHTFUL),
    )
    again = SteeringArtifact.from_pretrained(fitted)
    assert (again.template_arguments, again.template_tail) == ({"thinking": True}, THOUGHTFUL)
    before = artifact_for(llama())
    assert not {"template_arguments", "template_tail"} & set(before.config())
    before.save_pretrained(tmp_path / "before")
    assert SteeringArtifact.from_pretrained(tmp_path / "before").template_tail is None


@pytest.mark.parametrize("verb", ["validate", "predict"])
def test_another_template_is_warned_of_before_anything_runs_and_the_same_is_not(verb, model, fitted, tmp_path, capsys):
    def run(name, *more):
        tasks = ["--evaluation.task_dirs", f"[{tmp_path}]", "--evaluation.tasks", "[bakery_replies]"]
        asked = tasks if verb == "validate" else ["--data.prompts", "[bake a cake]"]
        main([verb, "--model.target", str(model), "--artifact", str(fitted), *asked, "--output", str(tmp_path / name),
              "--trainer.accelerator", "cpu", *more])  # fmt: skip
        return " ".join(capsys.readouterr().err.split())

    write_bakery(tmp_path, 3)
    assert "template" not in run("same", "--model.template_arguments", "{thinking: true}")
    said = run("other", "--template", "plain")
    assert (
        "fitted with the template `chat` with `{thinking: true}`, which writes ' <assistant>' behind a prompt" in said
    )
    assert "is used with `plain`, which writes '\\n'" in said
    assert "`--template chat` and `--model.template_arguments '{thinking: true}'`" in said
    if verb == "validate":
        same, other = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("same", "other"))
        assert same["generation"] == {
            "max_new_tokens": None, "template": "chat", "template_arguments": {"thinking": True},
        }  # fmt: skip
        assert "`plain`, which writes" in other["warnings"][0]
        assert not any("template" in warning for warning in same["warnings"])


def test_prompts_of_tasks_are_written_with_the_arguments(model, tmp_path):
    from sa_lightning.evaluation.harness.in_memory import InMemoryLM

    for arguments, tail in (({}, THOUGHTLESS), ({"thinking": True}, THOUGHTFUL)):
        lm = InMemoryLM(llama(), load_tokenizer(str(model), arguments=arguments))
        assert lm.apply_chat_template(QUESTION) == f"<bos><user> bake a cake{tail}"
    lm = InMemoryLM(llama(), load_tokenizer(str(model)), chat_template_args={"thinking": True})
    assert lm.apply_chat_template(QUESTION).endswith(THOUGHTFUL)


@pytest.mark.parametrize(
    ("argument", "fact"),
    [("{thinkin: true}", "does not read `thinkin`"), ("{tokenize: true}", "is set by every prompt itself")],
)
def test_an_argument_that_would_change_nothing_or_break_prompts_is_refused(argument, fact, model, tmp_path, refused):
    typed = ["predict", "--model.target", model, "--model.template_arguments", argument, "--data.prompts", "[x]"]
    assert fact in refused(*typed, "--output", tmp_path / "out", "--trainer.accelerator", "cpu")


def gated(**about):
    artifact = artifact_for(llama(), **about)
    artifact.rules["pairs"].gate = FittedGate(GateSettings("linear"))  # what it holds does not matter here
    return artifact


def test_a_gate_refuses_another_text_at_the_end_of_prompts():
    artifact = gated(template_tail=THOUGHTFUL)
    assert check_template(artifact, "chat", {}, THOUGHTFUL) is None
    with pytest.raises(ArtifactError) as error:
        check_template(artifact, "chat", {"thinking": False}, THOUGHTLESS)
    assert "reads prompts at their end" in str(error.value)
    assert "used with `chat` with `{thinking: false}`, which writes ' <assistant> no .'" in str(error.value)


def test_names_are_compared_where_the_text_is_not_known_and_nothing_where_nothing_is_steered():
    before = artifact_for(llama())
    assert check_template(before, "chat", {}, THOUGHTFUL) is None
    assert "`chat`, and is used with `plain`" in str(check_template(before, "plain", {}, "\n"))
    known = artifact_for(llama(), template_tail=THOUGHTFUL)
    assert check_template(known, "mine.jinja", {}, THOUGHTFUL) is None
    assert "before it may differ" in str(check_template(known, "chat", {"date": "today"}, THOUGHTFUL))
    known.rules["pairs"].directions = {"original": {}}
    assert check_template(known, "plain", {}, "\n") is None


def test_lm_eval_warns_where_prompts_are_written_by_a_template(model, fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        same = SafetyLM(str(model), str(fitted), device="cpu", chat_template_args={"thinking": True})
        same.apply_chat_template(QUESTION)
    other = SafetyLM(str(model), str(fitted), device="cpu")
    with pytest.warns(UserWarning, match=r"chat_template_args=\{.thinking.: true\}"):
        assert other.apply_chat_template(QUESTION).endswith(THOUGHTLESS)
    with pytest.warns(UserWarning, match="which writes"):
        SafetyLM(str(model), str(fitted), device="cpu", template="plain")
