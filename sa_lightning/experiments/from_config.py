"""Settings of a row out of a config of `sa fit`, so that a method is written down once."""

from collections.abc import Sequence

from sa_lightning.errors import SettingError
from sa_lightning.experiments.settings import MODEL_PARTS, Settings
from sa_lightning.resources import read_config

#: What else such a config may say: a comparison has it for all rows alike.
_FOR_ALL = {"model", "seed_everything", "trainer", "template", "output", "overwrite"}


def config_settings(path: str, parts: Sequence[str], where: str) -> Settings:
    """Read the settings of some parts, by their dotted names.

    Args:
        path: A config of `sa fit`, there or shipped.
        parts: Those that the row's arm uses, of `MODEL_PARTS`; others in the config are passed over.
        where: The row, for errors.

    Raises:
        SettingError: If there is no such config, it is one of another verb, or it says nothing of these parts.
    """
    try:
        config = read_config(path)
    except SettingError as error:
        raise SettingError(f"`{where}.from_config`: {error}") from error
    keys = list(config) if isinstance(config, dict) else []
    others = [str(key) for key in keys if key not in {*MODEL_PARTS, *_FOR_ALL}]
    if others or not keys:
        raise SettingError(
            f"`{where}.from_config` is {path}, which has {', '.join(others) or 'no settings'}.\n"
            f"A row takes {', '.join(MODEL_PARTS)} out of a config of `sa fit`; this is none.\n"
            "Name such a config, say configs/cast/fit.yaml, or write the settings under `set`."
        )
    found = {f"{part}.{name}": value for part in parts for name, value in (config.get(part) or {}).items()}
    if not found:
        raise SettingError(
            f"`{where}.from_config` is {path}, which has {', '.join(keys)}, but nothing of "
            f"{' or '.join(parts) or 'what an instruction has'}, which is what the row's arm uses.\n"
            "It would change nothing.\nTake another `arm`, or another config."
        )
    return found
