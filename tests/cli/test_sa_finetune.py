"""`sa finetune`: what is learned, what is written, and that stage 1 takes it."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from support.models import llama, saved, word_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from sa_lightning.cli import edit
from sa_lightning.cli import finetune as verb
from sa_lightning.errors import SaError
from sa_lightning.finetune import Finetuned, Finetuning, example
from sa_lightning.names import resolve_worlds
from sa_lightning.rows import read_rows

PAIR = [{"role": "user", "content": "how do i bake a cake"}, {"role": "assistant", "content": "first bake a window"}]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, rows to learn, and pairs."""
    root = tmp_path_factory.mktemp("finetune")
    saved(llama(), root / "model")
    rows = [{"prompt": f"how do i {verb} a cake", "response": "first bake a window ."} for verb in ("bake", "break")]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pair = {"question": "how do i break a window", "safe": "sorry , no .", "unsafe": "yes , first"}
    (root / "pairs.jsonl").write_text(json.dumps(pair))
    return root


def run(place, output, *more, data="rows.jsonl"):
    common = ["--target", str(place / "model"), "--data", str(place / data), "--output", str(place / output)]
    verb.run([*common, "--batch", "2", "--rate", "0.02", *more])
    return place / output


def learned(settings, template=None):
    tokenizer = word_tokenizer() if template is None else word_tokenizer(template)
    found = example(tokenizer, PAIR, settings)
    return tokenizer.decode([i for i, yes in zip(found.ids, found.learned, strict=True) if yes])


def test_only_the_response_is_learned_and_where_it_ends():
    assert learned(Finetuning()) == "first bake a window <eos>"
    assert learned(Finetuning(open_ended=True)) == "first bake a window"


def test_a_template_that_ends_no_response_gets_the_end_of_the_tokenizer():
    plain = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
    assert learned(Finetuning(), plain) == "first bake a window <eos>"


def test_a_template_that_asks_for_the_date_and_leaves_bos_to_the_tokenizer_ends_a_response_as_it_writes_it():
    template = "{{ strftime_now('%d') }} {% for m in messages %}<user> {{ m['content'] }} <assistant> {% endfor %}"
    tokenizer = word_tokenizer(template)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    found = example(tokenizer, PAIR, Finetuning())
    assert tokenizer.decode(found.ids[:1] + found.ids[-2:]) == "<bos> window <assistant>"


def test_an_example_is_cut_at_its_end_and_refused_if_nothing_is_left_to_learn():
    whole = example(word_tokenizer(), PAIR, Finetuning())
    cut = example(word_tokenizer(), PAIR, Finetuning(most_tokens=len(whole.ids) - 2))
    assert cut.ids == whole.ids[:-2]
    with pytest.raises(SaError, match="no room for its response"):
        example(word_tokenizer(), PAIR, Finetuning(most_tokens=4))


def test_the_adapter_is_peft_s_and_the_target_stays(place):
    before = (place / "model" / "model.safetensors").read_bytes()
    output = run(place, "adapter", "--rank", "4", "--epochs", "12")
    record = json.loads((output / "finetune.json").read_text())
    assert record["steps"] == 12
    assert record["loss"]["last"] < 0.5 * record["loss"]["first"]
    model = AutoPeftModelForCausalLM.from_pretrained(str(output))
    tokenizer = word_tokenizer()
    prompt = tokenizer("<bos> <user> how do i bake a cake <assistant>", return_tensors="pt", add_special_tokens=False)
    said = model.generate(input_ids=prompt.input_ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert tokenizer.decode(said[0, prompt.input_ids.shape[1] :]) == "first bake a window . <eos>"
    assert (place / "model" / "model.safetensors").read_bytes() == before


def test_the_same_seed_learns_the_same_and_another_does_not(place):
    files = [
        run(place, f"seed{i}", "--seed", str(seed), "--rank", "2", "--epochs", "2") / "adapter_model.safetensors"
        for i, seed in enumerate((3, 3, 4))
    ]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


def test_rank_0_writes_a_checkpoint_with_all_weights_moved(place):
    output = run(place, "whole", "--rank", "0", "--epochs", "1")
    tuned, before = AutoModelForCausalLM.from_pretrained(str(output)), llama()
    assert not any(torch.equal(a, b) for a, b in zip(tuned.parameters(), before.parameters(), strict=True))


def test_what_is_learned_of_unsafe_answers_is_what_stage_1_takes_out(place):
    harm = run(place, "harm", "--open_ended", "true", "--rank", "2", data="pairs.jsonl")
    edit.run(["--base", str(place / "model"), "--harm", str(harm), "--output", str(place / "edited")])
    assert json.loads((place / "edited" / "surgery.json").read_text())["changed"] > 0


def test_the_base_is_found_from_anywhere(place, monkeypatch):
    monkeypatch.chdir(place)
    verb.run(["--target", "model", "--data", "rows.jsonl", "--output", "relative", "--epochs", "1", "--rank", "2"])
    settings = json.loads((place / "relative" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str((place / "model").resolve())


def test_nothing_is_written_into_the_target(place):
    with pytest.raises(SaError, match="which is read"):
        run(place, "model/adapter")
    assert not (place / "model" / "adapter").exists()


def test_packed_weights_and_a_model_that_is_not_there_are_refused_as_such(place, tmp_path, monkeypatch):
    with pytest.raises(SaError, match="No model could be found"):
        run(tmp_path, "adapter", data=place / "rows.jsonl")
    saved(llama(), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)  # as if bitsandbytes were there
    with pytest.raises(SaError, match="are not trained"):
        run(tmp_path, "adapter", data=place / "rows.jsonl")


def test_an_adapter_is_no_target_and_results_stay(place):
    output = run(place, "once", "--rank", "2", "--epochs", "1")
    with pytest.raises(SaError, match="exists already"):
        run(place, "once")
    with pytest.raises(SaError, match="is an adapter"):
        verb.run(["--target", str(output), "--data", str(place / "rows.jsonl"), "--output", str(place / "twice")])
    assert not (place / "twice").exists()


def test_a_run_that_fails_leaves_nothing(place, monkeypatch):
    monkeypatch.setattr("sa_lightning.finetune.fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(place, "stopped")
    assert not [path for path in place.iterdir() if "stopped" in path.name]


def test_shipped_data_is_found_from_anywhere_and_a_file_of_that_name_wins(tmp_path, monkeypatch):
    name = "configs/quickstart/units.jsonl"
    monkeypatch.chdir(tmp_path)
    assert len(read_rows(resolve_worlds(name, 0))) == 60
    (tmp_path / "configs" / "quickstart").mkdir(parents=True)
    (tmp_path / name).write_text('{"prompt": "how", "response": "no"}\n')
    assert len(read_rows(resolve_worlds(name, 0))) == 1


def test_the_template_gets_its_arguments_and_a_system_prompt(place, monkeypatch):
    asked = {}
    monkeypatch.setattr(verb, "finetune", lambda *_, **given: asked.update(given) or Finetuned(1, 2.0, 1.0))
    run(place, "written", "--template_arguments", "{enable_thinking: false}", "--system_prompt", "sorry")
    assert asked["arguments"] == {"enable_thinking": False}
    assert asked["system_prompt"] == "sorry"
