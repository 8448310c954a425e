"""The lm-eval model `sa`: a checkpoint, edited and steered as an artifact says."""

import difflib
import json
import os
import sys
import warnings
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any, get_args

import torch
import torch.distributed as dist
from lm_eval.utils import simple_parse_args_string

from sa_lightning.errors import SettingError
from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from sa_lightning.fitting import Surgery
from sa_lightning.foreign.showing import shown
from sa_lightning.models import load_tokenizer, template_arguments, template_tail
from sa_lightning.models.stored.quantised import Quantization
from sa_lightning.models.tokenizer import tokenizer_place
from sa_lightning.module import CausalLMModule
from sa_lightning.names import resolve_worlds
from sa_lightning.steered import steer
from sa_lightning.steering import SteeringArtifact
from sa_lightning.steering.template import check_template

# What lm-eval's own `hf` model takes besides, and means the same here.
OF_HF = (
    *("max_length", "add_bos_token", "prefix_token_id", "truncation", "logits_cache", "softmax_dtype"),
    *("mixed_precision_dtype", "think_end_token", "enable_thinking", "chat_template_args"),
)
OURS = (
    *("pretrained", "artifact", "edited", "strength", "template", "dtype", "device", "tokenizer", "revision"),
    *("trust_remote_code", "allow_other_weights", "blocks", "trust_record", "quantization"),
)


class SafetyLM(InMemoryLM):
    """Load a model, put it into the state of one arm, and answer lm-eval.

    The artifact's directions are chosen by the fingerprint of the weights, as `steer` does. Under `torchrun` or
    `accelerate launch` every process holds the model and answers a share of the batches.

    Args:
        pretrained: Directory or Hub id of a checkpoint, a GGUF file, `world:smol/chat`, directory of a PEFT adapter,
            which is merged, or a sum: `BASE + ADAPTER*0.7`.
        artifact: Directory or Hub repository written by `sa fit`; without one, nothing is steered.
        edited: Apply the surgery that the artifact records, in memory.
        strength: Instead of the artifact's own; 0 switches steering off where the intervention has a neutral value.
        template: `plain`, `question_answer` or a Jinja file, instead of the tokenizer's own chat template; used where
            `--apply_chat_template` is given.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        device: A GPU if there is one, else the CPU.
        tokenizer: Directory or Hub id, if it does not lie beside the model.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run Python code that comes with the checkpoint.
        allow_other_weights: Steer weights that the artifact does not know with its `original` directions.
        blocks: Path of the list of decoder blocks, where they are not found by their number.
        trust_record: Let the recorded surgery download checkpoints, and read files of prompts that are not those of the
            fit.
        quantization: `8bit`, `4bit` or `dequantize`, as `--model.quantization` of the other verbs.
        batch_size: Most prompts that run together; `auto` for as many as suit the device.
        max_batch_size: Most prompts of an automatic batch.
        **settings: Of lm-eval's `hf` model: those in `OF_HF`.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        artifact: str | None = None,
        edited: bool = False,
        strength: float | None = None,
        template: str | None = None,
        dtype: Any = "auto",
        device: str | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        allow_other_weights: bool = False,
        blocks: str | None = None,
        trust_record: bool = False,
        quantization: Any = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **settings: Any,
    ) -> None:
        _check(pretrained, dtype, quantization, settings)
        found = SteeringArtifact.from_pretrained(artifact) if artifact else None
        if found is None and (edited or strength is not None):
            raise SettingError(
                f"`{'edited' if edited else 'strength'}` is set in --model_args, but no `artifact` is.\n"
                "An artifact says how to edit and along what to steer.\nAdd `artifact=DIR/artifact`, or leave it out."
            )
        if found is not None and edited and found.surgery is None:
            raise SettingError(
                f"`edited=true`, but {artifact} records no surgery.\nThe fit that made it only steered.\n"
                "Leave `edited` out, or fit with `--surgery.harm`."
            )
        found = None if found is None else found.with_strength(_strength(strength))  # refused before a model loads
        source = resolve_worlds(str(pretrained), 0)
        module = CausalLMModule(
            source,
            # A model without a chat template answers plain prompts, too.
            template=template or (found.template if found and edited else "plain"),
            template_arguments=found.template_arguments if found and edited and template is None else None,
            system_prompt=found.system_prompt if found and edited else None,
            dtype=dtype,
            tokenizer=tokenizer,
            revision=revision,
            trust_remote_code=trust_remote_code,
            blocks=blocks or (found.blocks if found else None),
            quantization=quantization,
        )
        module.setup("validate")
        how: Any = {"revision": revision, "trust_remote_code": trust_remote_code}
        self._untried = partial(load_tokenizer, module.tokenizer_source, **how) if template is None else None
        if found is not None:
            text = module.text_config
            found.check_model(text.num_hidden_layers, text.hidden_size, str(pretrained))
        own = _tokenizer(module) if template is None else module.tokenizer
        arguments = template_arguments(own) if own.chat_template else {}
        given = dict(settings.get("chat_template_args") or {})
        if settings.get("enable_thinking") is not None:
            given["enable_thinking"] = settings["enable_thinking"]
        arguments |= given
        self._unchecked = (found, template or "chat", arguments) if found is not None and own.chat_template else None
        if template is not None or given:  # else prompts may be written without any template
            self._check_template(own, None if found is None else found.system_prompt)
        surgery = Surgery.from_record(found.surgery, trust_record) if found and found.surgery and edited else None
        if surgery is not None:
            print(shown(f"The surgery that the artifact records reads: {surgery.reads()}."), file=sys.stderr)
            surgery.open(str(module.target), module.revision, quantization)
        module.configure_model()
        network: Any = module.network
        if surgery is not None:
            surgery.apply(network, module.tokenizer, module.dtype_name)
        network.to(_device(device))
        if found is not None:
            # For as long as the process lives.
            self._hooks = ExitStack()
            self._hooks.enter_context(steer(network, found, allow_other_weights=allow_other_weights))
        super().__init__(
            network,
            own,
            batch_size=None if batch_size is None or str(batch_size).startswith("auto") else int(batch_size),
            max_batch_size=max_batch_size,
            progress="",
            **settings,
        )
        self.pretrained, self.revision = pretrained, revision  # lm-eval writes them into its results

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """Write a conversation as the model expects it."""
        if not self.tokenizer.chat_template:
            raise SettingError(
                f"{self.pretrained} has no chat template, but --apply_chat_template was given.\n"
                "Prompts cannot be written as a conversation.\n"
                "Leave it out, or add `template=plain` (or question_answer, or a Jinja file) to --model_args."
            )
        if self._untried is not None:
            self._untried()  # refuses a template that writes nothing, or does not come to an end
            self._untried = None
        self._check_template(self.tokenizer, next((m["content"] for m in chat_history if m["role"] == "system"), None))
        return super().apply_chat_template(chat_history, add_generation_prompt)

    def _check_template(self, tokenizer: Any, system: str | None) -> None:
        """Refuse, or warn of, another template than that of the fit, once."""
        if self._unchecked is None:
            return
        (artifact, template, arguments), self._unchecked = self._unchecked, None
        tail = template_tail(tokenizer, arguments)
        how = "" if artifact.template == "chat" else f"`template={artifact.template}`"
        if artifact.template_arguments:
            how += f"{' and ' if how else ''}`chat_template_args={json.dumps(artifact.template_arguments)}`"
        how = f"{how or 'the own one of the tokenizer'} in --model_args"
        if artifact.system_prompt:
            how += f", and `--system_instruction {artifact.system_prompt!r}`"
        if warning := check_template(artifact, template, arguments, tail, system_prompt=system, how=how):
            warnings.warn(warning, stacklevel=2)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: Any, additional_config: Any = None) -> "SafetyLM":
        """Make the model of lm-eval's options; what --model_args names wins over an option of the same name."""
        options = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**options, **arg_dict})

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Any = None) -> "SafetyLM":
        """Likewise, of `name=value,name=value`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)


def _check(pretrained: str | None, dtype: Any, quantization: Any, settings: dict[str, Any]) -> None:
    """Refuse model arguments that would be ignored, or that name no model."""
    unknown = [name for name in settings if name not in OF_HF]
    if unknown:
        near = difflib.get_close_matches(unknown[0], (*OURS, *OF_HF), n=1)
        raise SettingError(
            f"`{unknown[0]}` in --model_args is nothing that the model `sa` knows."
            + (f" Did you mean `{near[0]}`?" if near else "")
            + f"\nIt would be ignored.\nThere are {', '.join(OURS)}, and of lm-eval's `hf` {', '.join(OF_HF)}."
        )
    if not pretrained:
        raise SettingError(
            "--model_args names no `pretrained`.\nIt is the model that is measured.\nAdd `pretrained=DIR`, or a Hub id."
        )
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise SettingError(
            f"`dtype={dtype}` in --model_args is no type of weights here.\n"
            "An artifact belongs to weights of one type.\nUse auto, float32, bfloat16 or float16."
        )
    if quantization not in (None, *get_args(Quantization)):
        raise SettingError(
            f"`quantization={quantization}` in --model_args is no way to pack or unpack weights.\n"
            "An artifact belongs to weights that are quantised in one way.\n"
            f"Use {', '.join(get_args(Quantization))}, or leave it out for weights as they are stored."
        )


def _strength(strength: Any) -> float | None:
    try:
        return None if strength is None else float(strength)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"`strength={strength}` in --model_args is no number.\nIt is how far the artifact steers.\n"
            "Give one, such as `strength=0.1`, or leave it out for the artifact's own."
        ) from error


def _tokenizer(module: CausalLMModule) -> Any:
    """The tokenizer as it is, with the chat template it has, if it has one."""
    from transformers import AutoTokenizer

    place, revision = tokenizer_place(module.tokenizer_source, module.revision)
    return AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=module.trust_remote_code)


def _device(device: str | None) -> torch.device:
    """Where the model of this process goes; under a launcher, processes join first."""
    cuda = torch.cuda.is_available() and not str(device).startswith("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(days=7))
        if cuda:
            torch.cuda.set_device(local)
            return torch.device("cuda", local)
    if cuda or not str(device).startswith("cuda"):
        return torch.device(device or ("cuda" if cuda else "cpu"))
    return torch.device("cpu")  # lm-eval asks for CUDA where nothing was typed
