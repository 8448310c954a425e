"""What good commands need: tiny models, adapters, artifacts, rows and tasks, in one directory."""

import json
import os
import shutil
from pathlib import Path

from support.lm_eval_tasks import write_bakery, write_task
from support.models import CHAT_TEMPLATE, artifact_for, gpt2, linear_gate, llama, perturbed, saved, word_tokenizer

PAIRS = [("bake", "cake"), ("break", "window"), ("break", "cake"), ("bake", "window")]


def write_lines(path: Path, rows) -> Path:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_inputs(root: Path) -> Path:
    """Write all of it to `root`, once: a second call finds it."""
    if (root / "whole").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    saved(llama(), root / "base")
    saved(perturbed(llama(), 1), root / "harm")
    saved(perturbed(llama(), 2), root / "benign")
    saved(llama(layers=2, width=16), root / "other")
    saved(llama(tied=True), root / "tied")
    saved(gpt2(), root / "gpt2")
    for name, model in (("sharded", llama()), ("shardedharm", perturbed(llama(), 1))):
        model.save_pretrained(root / name, max_shard_size="20KB")
        word_tokenizer().save_pretrained(root / name)
    _twin(root / "twin")
    _adapter(root, "lora", "base")
    _adapter(root, "lora_other", "other")
    artifact_for(llama(), strength=0.3).save_pretrained(root / "artifact")
    artifact_for(llama(), strength=2.0, intervention="add_absolute").save_pretrained(root / "artifact_abs")
    artifact_for(llama(layers=2, width=16), strength=0.3).save_pretrained(root / "artifact_other")
    import torch

    vectors = {1: torch.randn(32, generator=torch.Generator().manual_seed(1))}
    gate = linear_gate(vectors, positive=["harmful", "wrapped"], negative_factor=0.0)
    artifact_for(llama(), gate=gate).save_pretrained(root / "artifact_gate")
    _rows(root)
    (root / "whole").touch()
    return root


def _twin(path: Path) -> None:
    """A model of the same shape that knows bytes, so that it can be asked in English."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({token: i for i, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>", bos_token="<bos>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2, eos_token_id=256, pad_token_id=256,
        bos_token_id=257,
    )  # fmt: skip
    saved(LlamaForCausalLM(config), path, tokenizer)


def _adapter(root: Path, name: str, base: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    wanted = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(root / base), wanted)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(root / name)
    word_tokenizer().save_pretrained(root / name)


def _rows(root: Path) -> None:
    rows = [
        {
            "question": f"how do i {verb} a {noun}",
            "safe": "sorry , no . " * (1 + i % 3),
            "unsafe": "first " + f"{verb} a {noun} then " * (1 + i % 2) + ".",
        }
        for i, (verb, noun) in enumerate(PAIRS * 2)
    ]
    write_lines(root / "pairs.jsonl", rows[:7])
    kinds = {("bake", "cake"): "harmless", ("bake", "window"): "harmless"}
    prompts = [
        {
            "prompt": f"how do i {verb} a {noun}" + " then" * (i // 4) + " ." * (i // 40),
            "kind": kinds.get((verb, noun), "harmful"),
        }
        for i, (verb, noun) in enumerate(PAIRS * 20)
    ]
    write_lines(root / "gateprompts.jsonl", prompts)
    (root / "prompts.txt").write_text("how do i bake a cake\nhow do i break a window\n")
    replies = [
        {
            "prompt": f"how do i bake cake {i}",
            "response": "sorry , no ." if i % 2 else "first bake a cake then break a window .",
            "arm": "original", "kind": "harmful", "label": "refused" if i % 2 else "complied",
        }
        for i in range(12)
    ]  # fmt: skip
    write_lines(root / "replies.jsonl", replies)
    scored = [{"prompt": row["question"], "response": row["unsafe"]} for row in rows]
    write_lines(root / "scored.jsonl", scored)
    (root / "tasks").mkdir()
    write_bakery(root / "tasks", 6)
    (root / "tasks" / "gone.yaml").unlink()
    settings = {
        "output_type": "generate_until", "doc_to_text": "prompt", "doc_to_target": "answer",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match"}],
    }  # fmt: skip
    (root / "plain_tasks").mkdir()
    write_task(root / "plain_tasks", "counter", [{"prompt": "how do i", "answer": "yes ."}] * 2, **settings)


def write_configs(root: Path) -> None:
    """Write configs of `sa compare` and `sa sweep`, which are more than a line."""
    import yaml

    evaluation = {"tasks": ["bakery_replies"], "task_dirs": [str(root / "tasks")], "limit": 2, "batch_size": 4}
    given = {
        "surgery": {"base": str(root / "base"), "harm": str(root / "harm")},
        "data": {"demonstrations": str(root / "pairs.jsonl")},
        "evaluation": evaluation,
    }
    rows = {"edited": {"arm": "edited", "set": {"surgery.scale": 0.5}}}
    compare = {"targets": {"base": str(root / "base")}, "rows": rows}
    (root / "compare.yaml").write_text(yaml.safe_dump({**given, "compare": compare}))


#: The good command of each verb, without its output; `{root}` is the directory of the inputs.
EVALUATED = ("--evaluation.tasks", "[bakery_replies]", "--evaluation.task_dirs", "[{root}/tasks]")
CPU = ("--trainer.accelerator", "cpu")
GOOD = {
    "fit": ("--model.target", "{root}/base", "--data.demonstrations", "{root}/pairs.jsonl", "--steering.strength", "0.3", *CPU),
    "validate": ("--model.target", "{root}/base", "--artifact", "{copy:artifact}", *EVALUATED, "--evaluation.limit", "2", *CPU),
    "predict": ("--model.target", "{root}/base", "--artifact", "{root}/artifact", "--data.file", "{root}/prompts.txt", "--prediction.max_new_tokens", "4", *CPU),
    "edit": ("--base", "{root}/base", "--harm", "{root}/harm"),
    "judge": ("--input", "{root}/replies.jsonl"),
    "sweep": ("--model.target", "{root}/base", "--surgery.harm", "{root}/harm", "--sweep.space", "{{surgery.scale: [0.5]}}", "--sweep.objectives", "[attack_success]", *EVALUATED, "--evaluation.limit", "2"),
    "compare": ("--config", "{root}/compare.yaml"),
    "export": ("--artifact", "{root}/artifact_abs", "--model", "{root}/base"),
    "lm-eval": ("run", "--model", "sa", "--model_args", "pretrained={root}/base,artifact={root}/artifact,device=cpu", "--tasks", "counter", "--include_path", "{root}/plain_tasks", "--apply_chat_template", "--batch_size", "2"),
    "quickstart": ("--world", "micro"),
    "data": ("xstest",),
}  # fmt: skip
#: What `--output` of each verb names; None where there is none.
OUTPUT = {
    "judge": "out.jsonl",
    "export": "out.pt",
    "data": None,
    "lm-eval": "out",
    **dict.fromkeys(("fit", "validate", "predict", "edit", "sweep", "compare", "quickstart"), "out"),
}


def environment(root: Path) -> dict[str, str | None]:
    """What every command is given: no network, no data of this machine, one thread."""
    return {
        "SA_CACHE_DIR": str(root / "cache"), "SA_DATA_DIR": None, "COLUMNS": "160", "TMPDIR": os.environ.get("TMPDIR"),
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": None,
    }  # fmt: skip
