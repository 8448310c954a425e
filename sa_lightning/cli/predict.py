"""`sa predict`: replies to prompts, side by side under every arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser
from rich.table import Table
from typing_extensions import override

from sa_lightning.callbacks import PredictionCallback, SteeringCallback
from sa_lightning.cli.common.verb import VerbCLI
from sa_lightning.datamodules import PromptDataModule
from sa_lightning.errors import IncompleteError
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.outputs import Output
from sa_lightning.rows import json_line


class PredictCLI(VerbCLI):
    """Reply to prompts under every arm, greedily, and show the replies side by side.

    Writes OUTPUT/predictions.jsonl, one line a prompt with the replies of all arms.
    """

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--artifact", type=str | None, default=None, help="Short for --steering.artifact.")
        parser.add_lightning_class_args(SteeringCallback, "steering")
        parser.add_lightning_class_args(PredictionCallback, "prediction")

    @override
    def check(self, config: Any) -> None:
        config.steering.artifact = config.artifact or config.steering.artifact
        names = ["predictions.jsonl", "predict.json", "predict.yaml"]
        self.output = Output(config.output, "predict", names, done=names[:1], overwrite=config.overwrite)

    @override
    def callbacks(self) -> list[Callback]:
        return [*self.arms(self.config_init.steering), self.config_init.prediction]


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    cli = PredictCLI("predict", PromptDataModule, arguments)
    with cli.output:
        cli.trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    if not cli.config_init.prediction.rows:
        raise IncompleteError("The run was stopped before all replies were there; none were written.")
    if cli.trainer.is_global_zero:
        table = Table("prompt", *(arm.name for arm in cli.datamodule.arms), show_lines=True)
        for row in cli.config_init.prediction.rows:
            asked = row["prompt"] if isinstance(row["prompt"], str) else json_line(row["prompt"])
            table.add_row(asked, *row["replies"].values())
        console = Terminal()
        console.print(table)
        console.wrote(Path(cli.config.output) / "predictions.jsonl", "the same, for programs")
