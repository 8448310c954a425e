"""The help of every verb as its parser writes it: `python -m sa_lightning.cli.common.help_texts` renews `help/`."""

import contextlib
import importlib
import io
import os
import re
from collections.abc import Iterator
from unittest import mock

from jsonargparse import ArgumentParser

from sa_lightning.cli import VERBS
from sa_lightning.cli.options.kept import HELP
from sa_lightning.experiments.sweep.report import Plot
from sa_lightning.steering import RuleSettings
from sa_lightning.surgery.edit.settings import Minus

WIDTH = "100"
CLASSES = (RuleSettings, Minus, Plot)  # whose settings stand inside the value of an option


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield each verb whose help is kept, and what its parser writes."""
    for verb in VERBS:
        if verb == "lm-eval":  # its help is of the verb itself, and short
            continue
        written = io.StringIO()
        with (
            mock.patch.dict(os.environ, {"COLUMNS": WIDTH}),
            contextlib.redirect_stdout(written),
            contextlib.suppress(SystemExit),
        ):
            importlib.import_module(f"sa_lightning.cli.{verb}").run(["--help"])
        text = re.sub(r",\s+known\s+subclasses:[^)]*\)", ")", written.getvalue())  # of whatever has been imported
        yield verb, "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    for kind in CLASSES:
        parser = ArgumentParser(prog=kind.__name__)
        parser.add_class_arguments(kind)
        with mock.patch.dict(os.environ, {"COLUMNS": WIDTH}):
            yield (
                f"classes/{kind.__name__}",
                "".join(f"{line.rstrip()}\n" for line in parser.format_help().splitlines()),
            )


if __name__ == "__main__":
    for verb, text in help_texts():
        (HELP / f"{verb}.txt").write_text(text, encoding="utf-8")
        print(HELP / f"{verb}.txt")
