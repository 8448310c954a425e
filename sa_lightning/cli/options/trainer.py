"""Options of Lightning's Trainer: which may be set here, and why the others are refused.

Nothing is trained: a fit makes one pass over the demonstrations for each state of the weights, the other verbs measure
or reply. What would make such a run empty, partial or another is refused, also in a config; a value that is the
default, as in the config that an earlier run wrote, changes nothing and is taken.
"""

from typing import Any

from sa_lightning.errors import SettingError

#: All that `--help` shows.
ALLOWED = (
    *("accelerator", "strategy", "devices", "num_nodes", "logger", "callbacks", "enable_progress_bar"),
    *("deterministic", "benchmark", "profiler", "plugins"),
)
_PART = (
    "The run would read, measure or answer a part of what was asked for, or nothing.",
    "Leave it out; for less of the data: `--data.limit`, or `--limit` of `sa validate`.",
)
_IDLE = ("Nothing is trained here: it would change nothing.", "Leave it out.")
_PASSES = ("A fit makes one pass for each state of the weights: original and, after surgery, edited.", "Leave it out.")
_TYPE = (
    "It would change nothing, or the type of some numbers on the way: the model runs in the type it is loaded in.",
    "Say `--model.dtype bfloat16` for weights of another type.",
)
_OURS = ("How batches are dealt to processes is the verb's own business.", "Leave it out.")
_PLACE = ("Everything that a run writes goes to `--output`.", "Leave it out.")

#: Those that are refused: the values that change nothing, why others are refused, and what to do.
REFUSED: dict[str, tuple[tuple[Any, ...], tuple[str, str]]] = {
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), ((None, 1.0), _PART)),
    "limit_predict_batches": ((None, 1.0), _PART),
    "fast_dev_run": ((False, 0), _PART),
    "max_steps": ((-1,), _PART),
    "overfit_batches": ((0.0, 0), _PART),
    **dict.fromkeys(("min_epochs", "min_steps", "max_time"), ((None,), _PART)),
    "max_epochs": ((None,), _PASSES),
    "precision": ((None, 32, "32", "32-true"), _TYPE),
    "use_distributed_sampler": ((False,), _OURS),
    "default_root_dir": ((None,), _PLACE),
    "barebones": ((False,), _OURS),
    "val_check_interval": ((None, 1.0), _IDLE),
    "check_val_every_n_epoch": ((1,), _IDLE),
    "num_sanity_val_steps": ((0,), _IDLE),
    "log_every_n_steps": ((None, 50), _IDLE),
    "enable_checkpointing": ((False, None), _IDLE),
    "enable_model_summary": ((False, None), _IDLE),
    "accumulate_grad_batches": ((1,), _IDLE),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm", "model_registry"), ((None,), _IDLE)),
    "inference_mode": ((True,), _IDLE),
    **dict.fromkeys(("detect_anomaly", "sync_batchnorm"), ((False,), _IDLE)),
    "reload_dataloaders_every_n_epochs": ((0,), _IDLE),
    "enable_autolog_hparams": ((True, False), _IDLE),
}
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("auto", "ddp", "frozen_ddp", "sharded")


def check_trainer(name: str, value: Any) -> None:
    """Refuse an option of the Trainer that is not to be set here, or a value that no machine has.

    Args:
        name: Without `trainer.`.
        value: As read.

    Raises:
        SettingError: With the reason.
    """
    if name in REFUSED:
        known, (why, remedy) = REFUSED[name]
        # By type, too: to Lightning, 1.0 is all batches, and 1 is one.
        if not any(value == one and type(value) is type(one) for one in known):
            raise SettingError(f"`--trainer.{name}` is {value}, but cannot be set here.\n{why}\n{remedy}")
    elif name in ("accelerator", "strategy") and isinstance(value, str):
        words = ACCELERATORS if name == "accelerator" else STRATEGIES
        why = "The model computes there" if name == "accelerator" else "A frozen model is copied, or split"
        if value not in words:
            raise SettingError(
                f"`--trainer.{name}` is {value}, but must be one of {', '.join(words)}.\n"
                f"{why}.\nLeave it out for what this machine has."
            )
    elif name == "devices" and not _are_devices(value):
        raise SettingError(
            f"`--trainer.devices` is {value}, but must be a number of at least 1, `auto`, or a list such as 0,1.\n"
            "It is on how many devices, or on which, processes run.\nLeave it out for what this machine has."
        )


def _are_devices(value: Any) -> bool:
    if value == "auto":
        return True
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        ids: list[Any] = [int(part) if part.lstrip("-").isdigit() else part for part in parts]
        value = ids if "," in value or not ids else ids[0]
    if isinstance(value, list):
        whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in value)
        return whole and 0 < len(value) == len(set(value))
    return isinstance(value, int) and not isinstance(value, bool) and (value == -1 or 1 <= value < 2**31)
