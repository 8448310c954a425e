"""CausalLMModule: the LightningModule around a frozen causal language model."""

from datetime import date
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sa_lightning.errors import ModelError
from sa_lightning.foreign import thoughts
from sa_lightning.models import (
    Blocks,
    check_vocabulary,
    decode,
    load_config,
    load_model,
    load_sharded,
    load_tokenizer,
    locate_blocks,
    template_tail,
    tokenize,
)
from sa_lightning.models.loading import DType
from sa_lightning.models.stored.quantised import Quantization, packed_as
from sa_lightning.steering import weights_fingerprint


class CausalLMModule(LightningModule):
    """The model to make safer, frozen. What happens to it is the business of the callbacks.

    Training reads states of demonstrations and learns nothing by gradient; validation
    measures one arm a batch; prediction writes replies. The Hugging Face model is no submodule:
    Lightning neither casts, moves nor saves it.

    Args:
        target: The model to make safer: directory or Hub id of a checkpoint, a GGUF file, `world:smol/chat` (a
            real chat model of 135 million parameters), or directory of a PEFT adapter, which is merged. In a sum,
            `BASE + ADAPTER*0.7 + ADAPTER`, each adapter's change of the base is added with its weight.
        template: How conversations are written: `chat` (the tokenizer's own chat template), `plain`,
            `question_answer` (the format of the Safety Arithmetic authors), or a Jinja file.
        template_arguments: Handed to the template with every prompt, such as `{enable_thinking: false}`; an artifact
            records them. Templates that ask for today's date (`strftime_now`) get 2024-07-26, or the one given so:
            `{strftime_now: 2026-01-31}`.
        system_prompt: What the system says before every conversation that has no system turn; an artifact records it.
        dtype: Of the weights in memory; `auto` keeps that of the checkpoint.
        tokenizer: Directory or Hub id of the tokenizer, if it does not lie beside the target.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run Python code that comes with the checkpoint.
        blocks: Path of the list of decoder blocks, such as `model.layers`, where they are not found by their number.
        quantization: `8bit` or `4bit`: pack the weights as they are loaded, by bitsandbytes; `dequantize`: unpack those
            that are packed (bitsandbytes, mxfp4, fp8). If not set, they are as the checkpoint has them.
    """

    evaluate: Any  # `(model, arm) -> results`; EvaluationCallback brings it along
    observe: Any  # `(batch) -> None`; ExtractionCallback brings it along

    def __init__(
        self,
        target: str,
        template: str = "chat",
        dtype: DType = "auto",
        tokenizer: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        blocks: str | None = None,
        template_arguments: dict[str, Any] | None = None,
        system_prompt: str | None = None,
        quantization: Quantization | None = None,
    ) -> None:
        super().__init__()
        self.target = target
        self.name = target  # as records have it: of `world:smol/chat`, that name and no path
        self.template = template
        # YAML makes dates of what looks like one.
        given = {name: str(one) if isinstance(one, date) else one for name, one in (template_arguments or {}).items()}
        self.template_arguments, self.system_prompt = given, system_prompt
        self.dtype_name: DType = dtype
        self.quantization: Quantization | None = quantization
        self.tokenizer_source = tokenizer or target
        self.revision = revision
        self.trust_remote_code = trust_remote_code
        self.automatic_optimization = False
        self.blocks_path = blocks
        self.evaluate = None
        self.observe = None
        self._fingerprint = ""  # of a model of which this process holds a part
        self.generation: dict[str, Any] = {}
        self._config: PretrainedConfig | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._loaded: list[PreTrainedModel] = []  # a list hides the model from the module registry

    @property
    def config(self) -> PretrainedConfig:
        """The target's config, read without its weights."""
        if self._config is None:
            self._config = load_config(
                self.target,
                revision=self.revision,
                trust_remote_code=self.trust_remote_code,
                quantization=self.quantization,
            )
        return self._config

    @property
    def text_config(self) -> Any:
        """The part of the config that describes the decoder."""
        return self.config.get_text_config(decoder=True)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, with the chosen template."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(
                self.tokenizer_source,
                self.template,
                arguments=self.template_arguments,
                system_prompt=self.system_prompt,
                revision=self.revision,
                trust_remote_code=self.trust_remote_code,
            )
            check_vocabulary(self._tokenizer, self.config, self.tokenizer_source)
        return self._tokenizer

    @property
    def network(self) -> PreTrainedModel:
        """The Hugging Face model."""
        if not self._loaded:
            raise ModelError(
                "The model is not loaded yet.\nLightning loads it when a run starts.\nCall `configure_model()` first."
            )
        return self._loaded[0]

    @property
    def blocks(self) -> Blocks:
        """The decoder and its blocks."""
        return locate_blocks(self.network, self.blocks_path)

    @property
    def sharded(self) -> bool:
        """Whether the weights are split over processes, which must all run the same forwards."""
        return self.device_mesh is not None

    @property
    def max_length(self) -> int | None:
        """Most tokens the model was built for, or None if its config does not say."""
        return getattr(self.text_config, "max_position_embeddings", None)

    def setup(self, stage: str) -> None:
        """Refuse a missing model, template or tokenizer, or that of another model, before any weight is read."""
        _ = self.config, self.tokenizer

    def configure_model(self) -> None:
        """Load the weights, once, on the device of this process, or this process's part of them."""
        if self._loaded:
            return
        device = self.trainer.strategy.root_device if self._trainer is not None else torch.device("cpu")
        if self.sharded:
            if self.quantization in ("8bit", "4bit") or (packed_as(self.config) and self.quantization is None):
                raise ModelError(
                    f"`--trainer.strategy sharded`, and the weights of {self.name} are quantised.\n"
                    "Packed weights are not split over processes.\n"
                    "Leave one of the two out: quantised, a model needs a half or a quarter of the memory."
                )
            mesh: Any = self.device_mesh
            network, self._fingerprint = load_sharded(
                partial(self._load, torch.device("cpu")),
                mesh["data_parallel"],
                device,
                weights_fingerprint,
                self.blocks_path,
            )
        else:
            network = self._load(device)
        self._loaded.append(network)
        if self.blocks_path is not None:
            _ = self.blocks  # refused where there is no such list, also by a run that reads no block

    def _load(self, device: torch.device) -> PreTrainedModel:
        return load_model(
            self.target,
            dtype=self.dtype_name,
            device=device,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            quantization=self.quantization,
        )

    def fingerprint(self) -> str:
        """Identify the weights that the model has now, whole or split."""
        return self._fingerprint if self.sharded else weights_fingerprint(self.network)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Let whoever reads states run the decoder over a batch of pairs; the LM head never runs."""
        assert self.observe is not None, "ExtractionCallback sets it"
        self.observe(batch)

    def configure_optimizers(self) -> None:
        """Nothing is optimised."""

    def validation_step(self, arm: Any, batch_idx: int) -> Any:
        """Measure the model in the state that the callbacks have put it into for this arm."""
        assert self.evaluate is not None, "EvaluationCallback sets it"
        return self.evaluate(self.network, arm)

    @torch.no_grad()
    def predict_step(self, batch: Any, batch_idx: int) -> list[str]:
        """Reply to a batch of conversations, greedily unless `generation` says otherwise.

        Prompt and reply share the context that the model was built for: a reply takes half of it at most, and a prompt
        that has no room beside it loses its beginning, with a warning.
        """
        tokenizer: Any = self.tokenizer
        settings = dict(self.generation)
        most, reply = self.max_length, settings.get("max_new_tokens", 0)
        room = None if most is None else max(most - reply, most // 2)
        if most is not None and room is not None and reply > most - room:
            settings["max_new_tokens"] = most - room
            rank_zero_info(
                f"Replies end after {most - room} tokens: {self.name} was built for {most}, prompt included."
            )
        encoded = [tokenize(tokenizer, prompt, room) for prompt in batch.prompts]
        if any(cut for _, cut in encoded):
            rank_zero_warn(
                f"Prompts of more than {room} tokens lose their beginning: {self.name} was built for {most}, the reply "
                "included. Allow shorter replies (`--prediction.max_new_tokens`) to keep more."
            )
        inputs = tokenizer.pad({"input_ids": [ids for ids, _ in encoded]}, return_tensors="pt")
        inputs = {key: inputs[key].to(self.network.device) for key in ("input_ids", "attention_mask")}
        network: Any = self.network
        generated = network.generate(**inputs, do_sample=False, pad_token_id=tokenizer.pad_token_id, **settings)
        width = inputs["input_ids"].shape[1]
        begun = thoughts.open_mark(template_tail(tokenizer) or "")  # of a thought, which the template opens
        return [begun + decode(tokenizer, ids).strip() for ids in generated[:, width:].tolist()]
