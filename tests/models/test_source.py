"""Names of models: what is a base, what is added to it, and what is refused."""

import pytest
from support.small_checkpoints import says

from sa_lightning.errors import SettingError
from sa_lightning.names import resolve_worlds
from sa_lightning.source import Part, is_quantised, joined, other_base, parts, read
from sa_lightning.surgery import Sources


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lora", "dora", "a+b", "x*2", "a + b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "base").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "base", "adapters"),
    [
        ("base", "base", ()),
        ("org/name", "org/name", ()),
        ("lora", None, (("lora", 1.0),)),
        ("lora*0.7", None, (("lora", 0.7),)),
        ("base+lora * 0.7 +dora*-1", "base", (("lora", 0.7), ("dora", -1.0))),
        ("org/name + a+b*2 + lora", "org/name", (("a+b", 2.0), ("lora", 1.0))),
        ("a + b + x*2", None, (("a + b", 1.0), ("x*2", 1.0))),
        ("x*2*2", None, (("x*2", 2.0),)),
    ],
)
def test_a_name_is_a_base_and_what_is_added_to_it(here, text, base, adapters):
    assert read(text) == (base, adapters)
    assert read(joined(parts(text))) == (base, adapters)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("base + lora*much", ["weight `much`, which is no number"]),
        ("base + lora*nan", ["weight `nan`, which is no number"]),
        ("base + lora*0", ["weight `0`, which adds nothing"]),
        ("base + base", ["`base` in `base + base` is no adapter", "one base"]),
        ("lora + file", ["`file` in", "a file, and no adapter"]),
        ("base + org/adapter", ["`org/adapter` in", "no directory here", "hf download"]),
        ("base*2 + lora", ["`base` in `base*2 + lora` has the weight 2", "not weighed"]),
        ("base +", ["nothing on one side of a `+`"]),
        ("*2", ["nothing on one side of a `+` or before a `*`"]),
        ("+".join(["lora"] * 40), ["has 40 parts"]),
    ],
)  # fmt: skip
def test_what_is_no_sum_is_refused_in_three_lines(here, text, facts):
    with pytest.raises(SettingError) as error:
        read(text)
    says(error, *facts)
    assert str(error.value).count("\n") == 2


def test_each_part_of_a_sum_may_be_of_a_world_and_other_text_is_left_alone(here, monkeypatch):
    monkeypatch.setattr("sa_lightning.testbed.real_part", lambda name, part, seed, say: here / f"c+d/{name}/{part}")
    for name in ("chat", "sft_lora"):  # as they would be made
        (here / "c+d/smol" / name).mkdir(parents=True)
    found = resolve_worlds("world:smol/chat + lora*0.7 + world:smol/sft_lora", 0, quiet=True)
    assert parts(found) == [Part(f"{here}/c+d/smol/chat"), Part("lora", 0.7), Part(f"{here}/c+d/smol/sft_lora")]
    assert resolve_worlds("world:smol/sft_lora*-1", 0, quiet=True) == f"{here}/c+d/smol/sft_lora*-1.0"
    for text in ("2 + 2 is *four*", "a * b + c"):
        assert resolve_worlds(text, 0) == text


def test_a_record_names_each_part_of_a_sum_so_that_it_is_found_from_elsewhere(here):
    lasting = Sources(harm="base + a+b*0.5", base="org/name").lasting()
    assert lasting.harms == [f"{here}/base + {here}/a+b*0.5"]
    assert lasting.base == "org/name"


def test_bases_are_the_same_by_path_by_name_or_by_what_is_in_them(here):
    assert other_base("lora", "org/Name-7b", "/models/name-7b/") is None
    assert other_base("lora", str(here / "base"), "base") is None
    assert other_base("lora", None, "base") is None
    told = other_base("lora", "org/other", "base")
    assert told is not None
    assert "lora was trained on org/other, and is added to base" in told
    told = other_base("lora", "unsloth/base-bnb-4bit", "base")
    assert told is not None
    assert "rounded to few bits" in told
    names = ("x/Llama-GPTQ", "x/llama-AWQ", "x/llama-4bit", "x/llama-bnb-8bit", "x/Qwen-GPTQ-Int4", "x/llama-w4a16")
    assert all(map(is_quantised, names))
    assert not any(map(is_quantised, ("x/llama-7b", "x/Llama-3.1-8B-Instruct", "base", "x/int-4-all")))
    (here / "base" / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    assert is_quantised("base")
