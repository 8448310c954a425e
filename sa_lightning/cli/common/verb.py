"""What `fit`, `validate` and `predict` share: a LightningCLI for a model of which nothing is trained."""

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import SUPPRESS
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from typing_extensions import override

from sa_lightning.callbacks import (
    FrozenDDPStrategy,
    ProvenanceCallback,
    ShardedStrategy,
    SteeringCallback,
    SurgeryCallback,
)
from sa_lightning.cli.common.inputs import parse, typed
from sa_lightning.cli.options.trainer import REFUSED
from sa_lightning.errors import SaError, SettingError
from sa_lightning.foreign.showing import shown
from sa_lightning.models import template_arguments, template_tail
from sa_lightning.module import CausalLMModule
from sa_lightning.names import resolve_worlds
from sa_lightning.outputs import Output
from sa_lightning.progress import is_first, stages
from sa_lightning.resources import versions
from sa_lightning.steering.template import check_template

TRAINER_DEFAULTS = {
    "logger": False,
    "enable_checkpointing": False,  # nothing is trained, so there is no state to save
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the data modules deal batches themselves, without repeating rows
}


class VerbCLI(LightningCLI):
    """A LightningCLI for one verb: options, configs and links; subclasses say what runs.

    Args:
        verb: The word after `sa`.
        datamodule_class: What the verb reads.
        arguments: What was typed after the verb.
    """

    config: Any  # the configuration as parsed
    config_init: Any  # the same, with classes made into objects
    output: Output  # made by `check`
    template_warning: str | None = None  # of an artifact that was fitted with another

    def __init__(self, verb: str, datamodule_class: type[LightningDataModule], arguments: Sequence[str]) -> None:
        quieten()
        self.verb = verb
        self.typed = typed(verb, arguments)
        try:
            super().__init__(
                CausalLMModule,
                datamodule_class,
                args=list(arguments),
                run=False,
                save_config_callback=None,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                parser_kwargs={"prog": f"sa {verb}", "description": self.__doc__, "exit_on_error": False},
            )
        except BaseException:
            if hasattr(self, "output"):
                self.output.close()
            raise

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parse(parser, self.verb, args)

    @override
    def _add_arguments(self, parser: LightningArgumentParser) -> None:
        # What people come for first, the many options of the Trainer last.
        self.add_default_arguments_to_parser(parser)
        parser.add_argument("--output", type=str, required=True, help="Directory for everything this run writes.")
        parser.add_argument(
            "--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace results that this verb wrote."
        )
        parser.add_argument("--template", type=str | None, default=None, help="Short for --model.template.")
        parser.add_lightning_class_args(CausalLMModule, "model")
        parser.add_lightning_class_args(self._datamodule_class, "data")
        self.add_arguments_to_parser(parser)
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
        for action in parser._actions:  # taken with their defaults, as configs of earlier runs have them
            if action.dest.removeprefix("trainer.") in REFUSED and action.dest.startswith("trainer."):
                action.help = SUPPRESS

    @override
    def before_instantiate_classes(self) -> None:
        config: Any = self.config
        try:
            self.config_text = self.parser.dump(config, skip_unset=False)
        except ValueError as error:  # a class of somebody else's that cannot be written down
            raise SettingError(
                f"The settings cannot be written down: {' '.join(str(error).split())[:300]}\n"
                "Every result says by which settings it was made.\nGive classes in a `--config`, or leave them out."
            ) from error
        if self.verb != "fit" and config.trainer.strategy == ShardedStrategy.strategy_name:
            raise SettingError(
                f"`--trainer.strategy sharded` splits a model whose states are read; `sa {self.verb}` lets it reply.\n"
                "A reply takes a forward per token, and the LM head, which is left out there.\n"
                "Leave the strategy out: every process then holds the whole model."
            )
        self.check(config)
        self.target_as_written = config.model.target
        for key, value in list(config.items()):
            config[key] = resolve_worlds(value, config.seed_everything)
        if config.template is not None:
            config.model.template = config.template
        config.trainer.default_root_dir = config.output
        if config.trainer.strategy == "ddp" or (config.trainer.strategy == "auto" and _processes(config.trainer) > 1):
            config.trainer.strategy = FrozenDDPStrategy.strategy_name

    def arms(self, steering: SteeringCallback) -> list[Callback]:
        """Return the callbacks that put the model into the state of each arm: surgery first, then steering.

        What the arms are follows from the artifact; it is checked against the model before weights are read.
        """
        artifact = steering.artifact
        surgery = artifact.surgery if artifact is not None else None
        if artifact is not None:
            text = self.model.text_config
            artifact.check_model(text.num_hidden_layers, text.hidden_size, self.target_as_written)
            tokenizer = self.model.tokenizer
            self.template_warning = check_template(
                artifact,
                self.model.template,
                template_arguments(tokenizer),
                template_tail(tokenizer),
                system_prompt=self.model.system_prompt,
            )
            if self.template_warning and is_first():
                print(shown(f"Warning. {self.template_warning}\n"), file=sys.stderr)
        has = {"has_artifact": artifact is not None, "has_surgery": surgery is not None}
        if artifact is not None:
            has["has_gate"] = bool(artifact.gated)
        self.datamodule.choose(**has)
        if surgery is None:
            return [steering]
        callback = SurgeryCallback.from_record(surgery, steering.trust_record)
        if is_first():
            print(shown(f"The surgery that the artifact records reads: {callback.surgery.reads()}."), file=sys.stderr)
        if self.config.trainer.enable_progress_bar is not False and is_first():  # every process edits
            callback.surgery.progress = stages
        return [callback, steering]

    def check(self, config: Any) -> None:
        """Refuse what can be refused before anything is trained, downloaded or loaded; make `output`."""

    def callbacks(self) -> list[Callback]:
        """Return the verb's callbacks, in the order in which they act."""
        return []

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self.model.name = self.target_as_written  # a world's name, and no path of this machine
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        self.provenance = ProvenanceCallback(
            command=self.typed,
            config=self.config_text,
            versions=versions(),
            seed=self.config.seed_everything,
            verb=self.verb,
        )
        config["callbacks"] = [*(config["callbacks"] or []), *self.callbacks(), self.provenance]
        try:
            return Trainer(**config)
        except SaError:
            raise
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            raise SettingError(
                f"`--trainer…` asks for what cannot be here: {' '.join(str(error).split())}\n"
                "Every process needs a device of its own, and every setting its meaning.\n"
                "Mend what it names, or leave it out: accelerator, devices and strategy then suit this machine."
            ) from error


def quieten() -> None:
    """Keep what Lightning says about things that are so on purpose off the terminal."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for reason in (
        ".*does not have many workers.*",  # demonstrations are tokenised before the run
        ".*`training_step` returned `None`.*",  # nothing is optimised
        ".*You defined a `validation_step` but have no.*",  # a fit measures nothing
        ".*GPU available but not used.*",
        ".*is_gradient_checkpointing. is deprecated.*",  # peft with transformers 5.23
        ".*isinstance.treespec, LeafSpec.*",  # Lightning's own, with torch 2.13
        ".*configure_optimizers.*returned `None`.*",  # likewise
        ".*number of training batches.*smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message=reason)
    import transformers.utils.logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _processes(trainer: Any) -> int:
    """Return how many processes the trainer's settings ask for."""
    devices = trainer.devices
    if isinstance(devices, list):
        count = len(devices)
    elif str(devices) in ("auto", "-1"):
        count = max(1, torch.cuda.device_count()) if trainer.accelerator in ("auto", "gpu", "cuda") else 1
    else:
        count = int(devices) if str(devices).isdigit() else len(str(devices).split(","))
    return count * trainer.num_nodes
