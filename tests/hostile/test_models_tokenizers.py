"""Tokenizers and templates of strangers: what fails, or asks the model nothing, is refused before a weight is read."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.models import gpt2, llama, saved, word_tokenizer

from sa_lightning.errors import ModelError
from sa_lightning.models import load_tokenizer, render
from sa_lightning.module import CausalLMModule

TEMPLATE, BACKEND, CONFIG = "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    saved(llama(), root / "base")
    saved(gpt2(), root / "gpt2")
    return root


def content(file, value):
    return lambda place: (place / file).write_bytes(value if isinstance(value, bytes) else value.encode())


def changed(file, change):
    def make(place: Path) -> None:
        known = json.loads((place / file).read_text())
        change(known)
        (place / file).write_text(json.dumps(known))

    return make


def words(count):
    return changed(BACKEND, lambda known: known["model"]["vocab"].update({f"w{i}": 21 + i for i in range(count)}))


NO_TOKENIZER = "No tokenizer could be loaded from"
CASES = {
    "a syntax error": (content(TEMPLATE, "{% for m in messages %}{{ m"), "does not write .* TemplateSyntaxError"),
    "a TypeError": (content(TEMPLATE, "{{ messages + 1 }}"), "does not write .* TypeError"),
    "a division by zero": (content(TEMPLATE, "{{ 1 / 0 }}"), "does not write .* ZeroDivisionError"),
    "an undefined name": (content(TEMPLATE, "{{ quantum.state.of }}"), "does not write .* 'quantum' is undefined"),
    "what the sandbox forbids": (content(TEMPLATE, "{{ cycler.__init__.__globals__ }}"), "SecurityError"),
    "its own refusal": (content(TEMPLATE, "{{ raise_exception('no users here') }}"), "TemplateError: no users here"),
    "recursion": (content(TEMPLATE, "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"), "RecursionError"),
    "a file to include": (content(TEMPLATE, "{% include '/etc/passwd' %}"), "does not write .* TypeError"),
    "nothing written": (content(TEMPLATE, "{% for m in messages %}{% endfor %}"), "does not write what the user says"),
    "the message left out": (content(TEMPLATE, "<user> how <assistant>"), "does not write what the user says"),
    "a huge text": (content(TEMPLATE, "{{ 'how ' * 10**10 }}"), "MemoryError"),
    "bytes as template": (content(TEMPLATE, b"\xff\xfe\x81"), NO_TOKENIZER),
    "no tokenizer": (lambda place: (place / BACKEND).unlink(), NO_TOKENIZER),
    "half a tokenizer": (lambda place: os.truncate(place / BACKEND, 700), NO_TOKENIZER),
    "a tokenizer that is a list": (content(BACKEND, "[]"), NO_TOKENIZER),
    "a tokenizer nested deeply": (content(BACKEND, "[" * 100_000), NO_TOKENIZER),
    "a negative id": (changed(BACKEND, lambda known: known["model"]["vocab"].update(x=-5)), NO_TOKENIZER),
    "no words": (changed(BACKEND, lambda known: known["model"].update(vocab={})), "cannot be tokenised.*UNK"),
    "settings that are cut": (content(CONFIG, "{"), "tokenizer_config.json cannot be read as JSON"),
    "settings that are a list": (content(CONFIG, "[]"), "holds no JSON object"),
    "a class that is a number": (changed(CONFIG, lambda known: known.update(tokenizer_class=5)), NO_TOKENIZER),
    "a length in words": (changed(CONFIG, lambda known: known.update(model_max_length="x")), "cannot be tokenised"),
    "another model's words": (words(100), "tokens up to 120, but the embedding has 21 rows"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_tokenizer_or_template_is_refused_in_three_lines(good, tmp_path, name):
    change, match = CASES[name]
    place = shutil.copytree(good / "base", tmp_path / "model")
    change(place)
    (place / "model.safetensors").unlink()  # nothing of it is needed
    with pytest.raises(ModelError, match=match) as error:
        CausalLMModule(str(place)).setup("fit")
    assert str(error.value).count("\n") == 2, str(error.value)


def test_a_template_that_never_ends_is_ended(good, tmp_path, monkeypatch):
    monkeypatch.setattr("sa_lightning.models.tokenizer.SECONDS", 1)
    place = shutil.copytree(good / "base", tmp_path / "model")
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (place / TEMPLATE).write_text(loop)
    start = time.monotonic()
    with pytest.raises(ModelError, match="TimeoutError: it takes more than 1 seconds"):
        load_tokenizer(str(place))
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(("key", "listed"), [("tokenizer_file", False), ("vocab_file", False), ("x_files", True)])
def test_a_file_elsewhere_that_a_tokenizer_names_is_not_read(good, tmp_path, key, listed):
    place = shutil.copytree(good / "base", tmp_path / "model")
    elsewhere = tmp_path / "tokenizer.4.0.0.json"
    for name in (str(elsewhere), "../tokenizer.4.0.0.json"):
        changed(CONFIG, lambda known, name=name: known.update({key: [name] if listed else name}))(place)
        elsewhere.unlink(missing_ok=True)
        load_tokenizer(str(place))  # what is left of the machine of its author
        shutil.copy(place / BACKEND, elsewhere)
        with pytest.raises(ModelError, match=rf"names {name} as `{key}`, which lies elsewhere"):
            load_tokenizer(str(place))


def test_a_template_may_refuse_a_later_conversation_in_our_words(good, tmp_path):
    place = shutil.copytree(good / "base", tmp_path / "model")
    text = (place / TEMPLATE).read_text()
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    (place / TEMPLATE).write_text(refusal + text)
    tokenizer = load_tokenizer(str(place))
    with pytest.raises(ModelError, match="TemplateError: System role not supported"):
        render(tokenizer, [{"role": "system", "content": "be kind"}, {"role": "user", "content": "how"}])


def replies(source: Path, prompts: list[str], new: int) -> list[str]:
    module = CausalLMModule(str(source))
    module.generation = {"max_new_tokens": new}
    module.setup("predict")
    module.configure_model()
    asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return module.predict_step(SimpleNamespace(prompts=asked), 0)


def test_a_prompt_beyond_the_positions_loses_its_beginning_and_says_so(good):
    end = "how do i bake a cake " * 10
    cut = []
    for beginning in ("cake " * 30, "window " * 70):
        with pytest.warns(UserWarning, match="Prompts of more than 60 tokens lose their beginning: .* built for 64"):
            cut.append(replies(good / "gpt2", [beginning + end, "how"], 4))
    assert cut[0] == cut[1]


def test_a_reply_takes_half_of_the_context_at_most_whatever_stands_beside_it(good):
    short, long = (replies(good / "gpt2", ["how"], new)[0].split() for new in (20, 500))
    assert long[: len(short)] == short
    assert len(short) < len(long) <= 32
    with pytest.warns(UserWarning, match="more than 32 tokens lose their beginning"):
        assert replies(good / "gpt2", ["how", "window " * 90], 500)[0].split() == long


def test_a_token_without_a_row_is_refused_where_a_prompt_has_it_and_left_alone_where_none_has(tmp_path):
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["<image>"])  # as multimodal families have it in the tokenizer of their text model
    place = saved(llama(), tmp_path / "model", tokenizer)
    assert len(replies(place, ["how do i bake"], 2)) == 1
    with pytest.raises(ModelError, match="has the token '<image>', number 21, but the embedding has 21"):
        replies(place, ["how <image>"], 2)


def test_a_padding_without_a_row_is_left_out_of_the_model(good, tmp_path):
    place = shutil.copytree(good / "base", tmp_path / "model")
    changed(CONFIG, lambda known: known.update(pad_token="[PAD]"))(place)  # a fine-tune that did not resize
    prompts = ["how do i bake", "how"]
    assert replies(place, prompts, 4) == replies(good / "base", prompts, 4)


def test_half_a_surrogate_pair_is_no_text(good):
    with pytest.raises(ModelError, match="cannot be tokenised"), torch.no_grad():
        replies(good / "base", ["how \ud800"], 2)
