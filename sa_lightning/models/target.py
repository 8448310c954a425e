"""A model to be made safer, loaded, with all that a fit asks of it."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sa_lightning.models.blocks import Blocks, locate_blocks


@runtime_checkable
class Target(Protocol):
    """What a fit asks of a model: `LoadedModel` has it, and so has `CausalLMModule`.

    Attributes:
        network: The Hugging Face model.
        tokenizer: With the template in use.
        name: Directory, Hub id or `world:` name, for records and messages.
        template: Name of the template.
        template_arguments: Handed to it.
        blocks_path: Path of the decoder blocks, where they are not found by their number.
        blocks: The decoder and its blocks.
        text_config: The part of the config that describes the decoder.
        max_length: Most tokens the model was built for, if that is known.
        sharded: Whether its weights are split over processes.
    """

    @property
    def network(self) -> PreTrainedModel: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def blocks(self) -> Blocks: ...
    @property
    def text_config(self) -> Any: ...
    @property
    def max_length(self) -> int | None: ...
    @property
    def sharded(self) -> bool: ...

    name: str
    template: str
    template_arguments: dict[str, Any]
    blocks_path: str | None


@dataclass
class LoadedModel:
    """A model and its tokenizer as they are in memory (`Target`)."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str = ""
    template: str = "chat"
    template_arguments: dict[str, Any] = field(default_factory=dict)
    blocks_path: str | None = None
    sharded: bool = False

    def __post_init__(self) -> None:
        """Take the model's own name if none is given."""
        self.name = self.name or getattr(self.network.config, "_name_or_path", "") or type(self.network).__name__

    @property
    def blocks(self) -> Blocks:
        """The decoder and its blocks."""
        return locate_blocks(self.network, self.blocks_path)

    @property
    def text_config(self) -> Any:
        """The part of the config that describes the decoder."""
        return self.network.config.get_text_config(decoder=True)

    @property
    def max_length(self) -> int | None:
        """Most tokens the model was built for, if its config says."""
        return getattr(self.text_config, "max_position_embeddings", None)
