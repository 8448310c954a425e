"""A model on the bench: loaded once, measured under one setting after another, and given back after each."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple, TypedDict

import torch

from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import SettingError
from sa_lightning.evaluation.degenerate import is_language
from sa_lightning.evaluation.samples import Sample
from sa_lightning.fitting import SteeringSettings, Surgery, fit_artifact
from sa_lightning.module import CausalLMModule
from sa_lightning.steered import steer
from sa_lightning.steering import SteeringArtifact

__all__ = ["Bench", "Edit", "Measured"]

Measure = Callable[[Any, Any], list[Sample]]  # (model, tokenizer) -> samples


class Edit(TypedDict, total=False):
    """What a surgery says of itself; nothing without one."""

    density_achieved: float
    retained_energy: float
    relative_norm: float


class Measured(NamedTuple):
    """What a trial found."""

    samples: list[Sample]
    edit: Edit


class Bench:
    """One target, with what is expensive kept between trials: its weights, opened checkpoints, scores.

    Args:
        model: The target; its weights are loaded here, on the GPU if there is one.
        data: Demonstrations, for arms that are steered.
        measure: Runs the tasks on the model as it is.
        progress: Told how far work on weights has come.
    """

    def __init__(
        self,
        model: CausalLMModule,
        data: DemonstrationDataModule | None,
        measure: Measure,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.module, self.data, self.measure, self.progress = model, data, measure, progress
        self._scores: dict[Any, Any] = {}
        self._opened: dict[str, Any] = {}
        model.setup("validate")
        if data is not None:
            data.setup("fit")
            data.demonstrations.check(model.tokenizer)
        model.configure_model()
        if torch.cuda.is_available():
            model.network.to("cuda")  # type: ignore[arg-type]  # transformers types `to` loosely

    def run(self, arm: str, surgery: Surgery, steering: SteeringSettings | None) -> Measured:
        """Measure the model under these settings; afterwards it has its own weights again, bit for bit."""
        edit = Edit()
        with ExitStack() as stack:
            if arm.startswith("edited"):
                if not surgery.wanted:
                    raise SettingError(f"The arm `{arm}` needs a surgery.\nGive `--surgery.harm`.")
                surgery.progress = lambda: nullcontext(self.progress)
                surgery.scores, surgery.opened = self._scores, self._opened
                surgery.open(str(self.module.target), self.module.revision, self.module.quantization)
                stack.callback(surgery.undo)
                surgery.apply(self.module.network, self.module.tokenizer, self.module.dtype_name)
                record = surgery.record()
                edit = Edit(
                    density_achieved=record["density_achieved"],
                    retained_energy=record["retained_energy"],
                    relative_norm=record["relative_norm"],
                )
            if arm.endswith("steered"):
                assert steering is not None
                stack.enter_context(steer(self.module.network, self._fit(steering, surgery)))
            return Measured(self.measure(self.module.network, self.module.tokenizer), edit)

    def _fit(self, steering: SteeringSettings, surgery: Surgery) -> SteeringArtifact:
        """Fit directions on the weights as they are now."""
        if self.data is None:
            raise SettingError(
                "Steered arms need demonstrations to fit directions on.\nGive `--data.demonstrations pairs.jsonl`."
            )
        return fit_artifact(
            self.module,
            steering,
            self.data.demonstrations,
            batch_tokens=self.data.batch_tokens,
            batch_size=self.data.batch_size,
            share_prefixes=self.data.share_prefixes,
            is_language=is_language,
            area=lambda: surgery.edit_area(str(self.module.target), self.module.revision),
        )
