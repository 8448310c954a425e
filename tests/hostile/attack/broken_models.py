"""Checkpoints, tokenizers and adapters with one thing wrong each, made of good ones."""

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Break = Callable[[Path], object]
SHARD = "model-00003-of-00008.safetensors"
UP = "model.layers.1.mlp.up_proj.weight"


@dataclass(frozen=True)
class Broken:
    """One thing wrong.

    Attributes:
        make: Does it to a directory, a copy of `of`.
        of: Which of the inputs.
        edits: What `sa edit` does of it as a base: refused, right, or either where it copies what it does not read.
        loads: What verbs do that load it.
        known: Its number in the attack before, if it has one.
    """

    make: Break
    of: str = "base"
    edits: str = "refused"
    loads: str = "refused"
    known: str = ""


def config(**changes) -> Break:
    """Change keys of config.json; None takes one away."""

    def make(path: Path) -> None:
        found = {**json.loads((path / "config.json").read_text()), **changes}
        (path / "config.json").write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return make


def text(name: str, content: str | bytes) -> Break:
    """Write a file."""
    return lambda path: (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def gone(*names: str) -> Break:
    """Take files away."""
    return lambda path: [(path / name).unlink(missing_ok=True) for name in names]


def cut(name: str, size: int) -> Break:
    """Keep so many bytes of a file."""
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:size])


def tensors(change: Callable[[dict], dict], name: str = "model.safetensors") -> Break:
    """Change the tensors of a file."""
    return lambda path: save_file(change(load_file(path / name)), path / name, metadata={"format": "pt"})


def header(change: Callable[[dict], object] | bytes, name: str = "model.safetensors") -> Break:
    """Change the header of a safetensors file, and leave its data."""

    def make(path: Path) -> None:
        raw = (path / name).read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        head = change if isinstance(change, bytes) else json.dumps(change(json.loads(raw[8 : 8 + length]))).encode()
        (path / name).write_bytes(struct.pack("<Q", len(head)) + head + raw[8 + length :])

    return make


def index(change: Callable[[dict], object]) -> Break:
    """Change the index of a checkpoint in shards."""

    def make(path: Path) -> None:
        place = path / "model.safetensors.index.json"
        place.write_text(json.dumps(change(json.loads(place.read_text()))))

    return make


def placed(name: object) -> Break:
    """Let the index call its third shard otherwise."""
    return index(
        lambda found: {**found, "weight_map": {k: name if v == SHARD else v for k, v in found["weight_map"].items()}}
    )


def without(found: dict, *names: str) -> dict:
    """A dictionary without some keys."""
    return {key: value for key, value in found.items() if key not in names}


def cast(dtype: torch.dtype) -> Break:
    """All tensors in another type."""
    return tensors(lambda found: {name: (10 * tensor).to(dtype) for name, tensor in found.items()})


def linked(path: Path) -> None:
    """A link out of the checkpoint."""
    (path.parent / "secret").write_text("mine")
    (path / "vocab.txt").symlink_to(path.parent / "secret")


def pickle_only(path: Path) -> None:
    """Weights in a pickle alone."""
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def two_things(path: Path) -> None:
    """A checkpoint that is an adapter, too."""
    shutil.copy(path.parents[1] / "lora" / "adapter_config.json", path)
    shutil.copy(path.parents[1] / "lora" / "adapter_model.safetensors", path)


def template(source: str) -> Broken:
    """Another chat template; `sa edit` copies it."""
    return Broken(text("chat_template.jinja", source), edits="right", known="F16")


LOUD = {"edits": "either"}
MODELS = {
    "config missing": Broken(gone("config.json"), edits="either", known="F14"),
    "config empty": Broken(text("config.json", ""), known="F14"),
    "config a list": Broken(text("config.json", "[]"), known="F14"),
    "config a number": Broken(text("config.json", "42")),
    "config null": Broken(text("config.json", "null")),
    "config malformed": Broken(text("config.json", "{"), known="F40"),
    "config binary": Broken(text("config.json", b"\xff\xfe\x00\x81" * 40)),
    "config nested deeply": Broken(text("config.json", "[" * 100_000)),
    "config with a huge number": Broken(text("config.json", '{"model_type": "llama", "vocab_size": ' + "9" * 6000 + "}")),
    "config of an unknown type": Broken(config(model_type="quantum", architectures=["QuantumForCausalLM"]), **LOUD),
    "config of an encoder": Broken(config(model_type="bert", architectures=["BertModel"]), known="F14", **LOUD),
    "config of custom code": Broken(config(model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"}), known="F40", **LOUD),
    "config without a type": Broken(config(model_type=None), **LOUD),
    "config with a type that is a list": Broken(config(model_type=["llama"]), **LOUD),
    "no layers": Broken(config(num_hidden_layers=0), known="F14", **LOUD),
    "more layers than weights": Broken(config(num_hidden_layers=5), known="F7", **LOUD),
    "fewer layers than weights": Broken(config(num_hidden_layers=2), known="F7", **LOUD),
    "layers in words": Broken(config(num_hidden_layers="three"), **LOUD),
    "negative layers": Broken(config(num_hidden_layers=-1), **LOUD),
    "wrong width": Broken(config(hidden_size=48), known="F14", **LOUD),
    "width that no memory holds": Broken(config(hidden_size=4_000_000, intermediate_size=4_000_000), **LOUD),
    "vocabulary of another size": Broken(config(vocab_size=40), **LOUD),
    "vocabulary in words": Broken(config(vocab_size="many"), **LOUD),
    "no heads": Broken(config(num_attention_heads=0), **LOUD),
    "heads that do not divide": Broken(config(num_attention_heads=5, head_dim=None), **LOUD),
    "unknown activation": Broken(config(hidden_act="quantum"), **LOUD),
    "unknown dtype": Broken(config(dtype="quantum", torch_dtype="quantum"), **LOUD),
    "GPTQ": Broken(config(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32}), known="F14", **LOUD),
    "bitsandbytes": Broken(config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), **LOUD),
    "quantisation of nobody": Broken(config(quantization_config={"quant_method": "quantum"}), **LOUD),
    "quantisation a list": Broken(config(quantization_config=[1]), **LOUD),
    "rope that is nothing": Broken(config(rope_parameters={"rope_type": "quantum"}, rope_scaling={"rope_type": "quantum"}), **LOUD),
    "no weights": Broken(gone("model.safetensors"), known="F14"),
    "weights of no bytes": Broken(text("model.safetensors", b""), known="F14"),
    "weights of four bytes": Broken(text("model.safetensors", b"\x01\x02\x03\x04")),
    "weights cut": Broken(cut("model.safetensors", 60_000), known="F14"),
    "weights cut in the header": Broken(cut("model.safetensors", 700)),
    "weights garbage": Broken(text("model.safetensors", bytes(range(256)) * 40), known="F14"),
    "weights are HTML": Broken(text("model.safetensors", "<!DOCTYPE html><html>404</html>" * 90)),
    "weights are a pointer of git lfs": Broken(text("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n")),
    "pickle alone": Broken(pickle_only, known="F14"),
    "header longer than the file": Broken(lambda path: (path / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}"), known="F14"),
    "header of a length that no number is": Broken(lambda path: (path / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")),
    "header no JSON": Broken(header(b"{{{")),
    "header a list": Broken(header(b"[]")),
    "header empty": Broken(header(b"{}")),
    "header with an unknown type": Broken(header(lambda h: {**h, UP: {**h[UP], "dtype": "Q4"}})),
    "header with a negative shape": Broken(header(lambda h: {**h, UP: {**h[UP], "shape": [-1, 32]}})),
    "header with another shape": Broken(header(lambda h: {**h, UP: {**h[UP], "shape": [1, 32]}})),
    "header with offsets that overlap": Broken(header(lambda h: {**h, UP: {**h[UP], "data_offsets": [0, 8192]}})),
    "header with offsets beyond the end": Broken(header(lambda h: {**h, UP: {**h[UP], "data_offsets": [10**9, 10**9 + 8192]}})),
    "header with text as offsets": Broken(header(lambda h: {**h, UP: {**h[UP], "data_offsets": ["a", "b"]}})),
    "metadata no object": Broken(header(lambda h: {**h, "__metadata__": 7}), known="F18"),
    "a tensor missing": Broken(tensors(lambda t: without(t, UP)), known="F7"),
    "an embedding missing": Broken(tensors(lambda t: without(t, "model.embed_tokens.weight"))),
    "all tensors renamed": Broken(tensors(lambda t: {f"old.{k}": v for k, v in t.items()}), known="F7"),
    "a tensor too many": Broken(tensors(lambda t: {**t, "model.layers.7.mlp.up_proj.weight": t[UP].clone()}), known="F7"),
    "a tensor of another shape": Broken(tensors(lambda t: {**t, UP: t[UP][:, :16].contiguous()})),
    "a tensor of no dimension": Broken(tensors(lambda t: {**t, UP: torch.tensor(1.0)})),
    "whole numbers": Broken(cast(torch.int32), known="F37"),
    "bytes": Broken(cast(torch.int8), known="F37"),
    "truth values": Broken(cast(torch.bool), known="F37"),
    "not a number": Broken(tensors(lambda t: {**t, UP: t[UP] * float("nan")}), loads="either", **LOUD),
    "link out of it": Broken(linked, loads="either", known="F3"),
    "two things at once": Broken(two_things, edits="either", known="P14"),
    "index malformed": Broken(text("model.safetensors.index.json", "{"), of="sharded"),
    "index a list": Broken(text("model.safetensors.index.json", "[]"), of="sharded"),
    "index a number": Broken(text("model.safetensors.index.json", "7"), of="sharded"),
    "index binary": Broken(text("model.safetensors.index.json", b"\xff\xfe\x81"), of="sharded"),
    "index without its map": Broken(index(lambda found: {"metadata": {}}), of="sharded"),
    "index whose map is a list": Broken(index(lambda found: {"weight_map": []}), of="sharded"),
    "index whose map is empty": Broken(index(lambda found: {"weight_map": {}}), of="sharded"),
    "shard gone": Broken(gone(SHARD), of="sharded", known="F14"),
    "shard cut": Broken(cut(SHARD, 900), of="sharded"),
    "shard outside": Broken(placed("../notes.safetensors"), of="sharded", known="F1"),
    "shard at an absolute path": Broken(placed("/dev/null"), of="sharded", known="F1"),
    "shard of another suffix": Broken(placed("model.st"), of="sharded", known="F2"),
    "shard named by a number": Broken(placed(7), of="sharded", known="F18"),
    "shard named by null": Broken(placed(None), of="sharded", known="F18"),
    "shard with a name too long": Broken(placed("a" * 300 + ".safetensors"), of="sharded", known="F18"),
    "one file beside the shards": Broken(lambda path: shutil.copy(path.parents[1] / "harm" / "model.safetensors", path), of="sharded", known="P14"),
    "a file in its place": Broken(lambda path: (shutil.rmtree(path), path.write_text("no model"))),
    "a GGUF that is none": Broken(lambda path: (shutil.rmtree(path), path.write_bytes(b"GGUF" + b"\x07" * 90))),
    "an empty directory": Broken(lambda path: (shutil.rmtree(path), path.mkdir())),
    "nothing there": Broken(shutil.rmtree),
}  # fmt: skip

TOKENIZERS = {
    "tokenizer gone": Broken(gone("tokenizer.json", "tokenizer_config.json"), edits="right", known="F14"),
    "tokenizer cut": Broken(cut("tokenizer.json", 300), edits="right", known="F14"),
    "tokenizer malformed": Broken(text("tokenizer.json", "{"), edits="right"),
    "tokenizer a list": Broken(text("tokenizer.json", "[]"), edits="right"),
    "tokenizer binary": Broken(text("tokenizer.json", b"\xff\xfe\x81"), edits="right"),
    "tokenizer config malformed": Broken(text("tokenizer_config.json", "{"), edits="right"),
    "tokenizer config a list": Broken(text("tokenizer_config.json", "[]"), edits="right"),
    "tokenizer of an unknown class": Broken(text("tokenizer_config.json", '{"tokenizer_class": "Quantum"}'), edits="right", loads="either"),
    "token ids beyond the embedding": Broken(lambda path: _more_words(path), edits="right", known="F16"),
    "template gone": Broken(gone("chat_template.jinja"), edits="right", known="F16"),
    "template with a syntax error": template("{% for m in messages %}{{ m['content'] }"),
    "template with a TypeError": template("{{ messages + 1 }}"),
    "template with an undefined name": template("{{ quantum.state.of }}"),
    "template that is unsafe": template("{{ messages.__class__.__mro__[1].__subclasses__() }}"),
    "template that raises": template("{{ raise_exception('I take no prompts') }}"),
    "template that renders nothing": template("{% for m in messages %}{% endfor %}"),
    "template without the message": Broken(text("chat_template.jinja", "<user> how do i <assistant>"), edits="right", loads="either"),
    "template that divides by zero": template("{{ 1 / 0 }}"),
    "template that recurses": template("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"),
    "template that never ends": template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
    "template of a huge text": template("{{ 'how ' * 10**9 }}"),
    "template that includes a file": template("{% include '/etc/passwd' %}"),
    "template binary": Broken(text("chat_template.jinja", b"\xff\xfe\x81"), edits="right"),
}  # fmt: skip


def _more_words(path: Path) -> None:
    """Give the tokenizer words that the model has no embedding of, and let the template use one."""
    found = json.loads((path / "tokenizer.json").read_text())
    found["model"]["vocab"]["further"] = 4000
    (path / "tokenizer.json").write_text(json.dumps(found))
    source = (path / "chat_template.jinja").read_text()
    (path / "chat_template.jinja").write_text("further " + source)


def adapter(**changes) -> Break:
    """Change keys of adapter_config.json."""

    def make(path: Path) -> None:
        place = path / "adapter_config.json"
        place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))

    return make


def factors(change: Callable[[dict], dict]) -> Break:
    """Change the tensors of an adapter."""
    return tensors(change, "adapter_model.safetensors")


def first(change: Callable[[torch.Tensor], torch.Tensor]) -> Break:
    """Change the first factor of an adapter."""
    return factors(lambda found: {name: change(t) if i == 0 else t for i, (name, t) in enumerate(found.items())})


def _own(**settings) -> Broken:
    return Broken(settings.pop("make"), of="lora", **{"edits": "refused", **settings})


ADAPTERS = {
    "adapter config malformed": _own(make=text("adapter_config.json", "{"), known="F15"),
    "adapter config a list": _own(make=text("adapter_config.json", "[]"), known="F15"),
    "adapter config empty": _own(make=text("adapter_config.json", "{}"), known="F15"),
    "adapter config binary": _own(make=text("adapter_config.json", b"\xff\xfe\x81")),
    "adapter config nested deeply": _own(make=text("adapter_config.json", "[" * 100_000), known="F18"),
    "adapter of no base": _own(make=adapter(base_model_name_or_path=None), known="F15"),
    "adapter of a number": _own(make=adapter(base_model_name_or_path=7), known="F18"),
    "adapter of itself": _own(make=lambda path: adapter(base_model_name_or_path=str(path))(path), known="F18"),
    "adapter of a base that is gone": _own(make=adapter(base_model_name_or_path="/nowhere/base"), known="F15"),
    "adapter of another base": _own(make=lambda path: adapter(base_model_name_or_path=str(path.parents[1] / "other"))(path), known="F15"),
    "adapter of an unknown kind": _own(make=adapter(peft_type="QUANTUM"), known="F15"),
    "adapter of a prompt": _own(make=adapter(peft_type="PROMPT_TUNING", num_virtual_tokens=4)),
    "adapter weights gone": _own(make=gone("adapter_model.safetensors"), known="F15"),
    "adapter weights cut": _own(make=cut("adapter_model.safetensors", 900), known="F15"),
    "adapter weights garbage": _own(make=text("adapter_model.safetensors", bytes(range(256)) * 9)),
    "adapter weights of no bytes": _own(make=text("adapter_model.safetensors", b"")),
    "adapter keys that find nothing": _own(make=factors(lambda t: {k.replace("layers", "blocks"): v for k, v in t.items()}), known="F7"),
    "adapter key too many": _own(make=factors(lambda t: {**t, "base_model.model.model.layers.9.mlp.down_proj.lora_A.weight": next(iter(t.values())).clone()}), known="F7"),
    "adapter without one of its factors": _own(make=factors(lambda t: without(t, next(iter(t)))), known="F7"),
    "adapter factor of another rank": _own(make=first(lambda t: t[:2].contiguous()), known="F18"),
    "adapter factor of no dimension": _own(make=first(lambda t: torch.tensor(1.0)), known="F18"),
    "adapter factor of whole numbers": _own(make=first(lambda t: (10 * t).int())),
    "adapter of rank 0": _own(make=adapter(r=0), known="F18"),
    "adapter of a negative rank": _own(make=adapter(r=-4)),
    "adapter of a rank in words": _own(make=adapter(r="four")),
    "adapter of alpha in words": _own(make=adapter(lora_alpha="eight"), known="F18"),
    "adapter of alpha null": _own(make=adapter(lora_alpha=None), known="F18"),
    "adapter with a pattern that never ends": _own(make=adapter(alpha_pattern={"(([a-z_.0-9])+)+!": 4}), edits="either", loads="either", known="F41"),
    "adapter with a rank pattern that never ends": _own(make=adapter(rank_pattern={"(([a-z_.0-9])+)+!": 4}), edits="either", loads="either", known="F41"),
    "adapter with targets that never end": _own(make=adapter(target_modules="(([a-z_.0-9])+)+!"), edits="either"),
    "adapter with a pattern that is none": _own(make=adapter(alpha_pattern={"((": 4}), edits="either", loads="either", known="F18"),
    "adapter with targets in no list": _own(make=adapter(target_modules=7), edits="either"),
    "adapter with a pattern that is a list": _own(make=adapter(alpha_pattern=[1]), edits="either"),
}  # fmt: skip
ALL = {**MODELS, **TOKENIZERS, **ADAPTERS}


def broken(root: Path, name: str) -> Path:
    """Return the broken directory of a name, which is made if it is not there; `twin: NAME` is made of another input."""
    of, _, plain = name.rpartition(": ")
    place = root / "broken" / name.replace(" ", "_").replace(":", "")
    known = root / "broken" / f".{place.name}"
    if not known.exists():
        shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
        place.parent.mkdir(exist_ok=True)
        shutil.copytree(root / (of or ALL[plain].of), place)
        ALL[plain].make(place)
        known.touch()
    return place
