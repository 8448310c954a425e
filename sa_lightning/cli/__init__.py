"""`sa`: the one place where everything meets.

This file knows the verbs, and with `common.first_words` their options, so that help and plain mistakes cost nothing;
each verb lives in a file of its own, which imports what it needs when it runs.
"""

import argparse
import errno
import importlib
import io
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from sa_lightning import __version__
from sa_lightning.cli.common.first_words import first_look
from sa_lightning.cli.options.checks import in_our_words
from sa_lightning.cli.options.kept import options_for
from sa_lightning.errors import IncompleteError, SaError
from sa_lightning.foreign.files import is_safe, safely
from sa_lightning.foreign.showing import obey_nothing, shown

VERBS = {
    "quickstart": "See it work in minutes on a real chat model: fit, measure, read replies side by side.",
    "fit": "Learn: remove the harm direction from the weights, fit a safety direction for the activations.",
    "validate": "Measure every arm (original, edited, steered, both): safety, over-refusal, utility.",
    "predict": "Write replies to prompts, side by side under every arm.",
    "edit": "Weight surgery alone: checkpoints in, edited checkpoint out.",
    "finetune": "Fine-tune a copy on prompts with responses: the harmful copy that stage 1 needs, or one for a task.",
    "judge": "Say what became of saved replies: rules, phrase lists, judge models; and how far these agree.",
    "sweep": "Try many settings on validation prompts: a grid or a search, the Pareto front, the settings to take.",
    "compare": "Methods against one another: chosen on validation prompts, reported on others, with controls.",
    "data": "The data sets of the field: licence, whether they are at hand, how to get them.",
    "export": "An artifact's steering as the file that lm-eval's own model `steered` reads.",
    "lm-eval": "lm-eval's own command line, with our model and our tasks.",
}

#: Libraries that a verb loads, which takes seconds.
LOADED: dict[str, str] = {
    **dict.fromkeys(
        ("quickstart", "fit", "validate", "predict", "sweep", "compare", "finetune"), "torch, transformers, Lightning"
    ),
    **dict.fromkeys(("edit", "judge", "export"), "torch, transformers"),
}

#: What the system says of a place that cannot take, or give, what it is asked for.
PLACES = frozenset(
    getattr(errno, name, 0) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "ENAMETOOLONG")
)

RESUMED = ("fit", "validate", "edit", "judge", "sweep", "compare")

HELP = f"""sa {__version__}: make a language model safer at test time, without training it

usage: sa VERB [options]      (`sa VERB --help` explains the options)

{chr(10).join(f"  {verb:<12}{text}" for verb, text in VERBS.items())}

Start here:
  sa quickstart --output runs/first
  sa fit --config configs/safety_arithmetic/fit.yaml --model.target MODEL --surgery.harm HARM \\
      --data.demonstrations pairs.jsonl --output runs/mine
  sa validate --config configs/safety_arithmetic/validate.yaml --model.target MODEL \\
      --artifact runs/mine/artifact --output runs/mine-measured

A config that is not found below the current directory is taken from the package.
Configs and tasks can name code. For those of others: --safe, with any verb, runs nothing that comes with a file.
Exit status: 0 success, 2 a mistake in what was asked for, 1 anything else.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run `sa`; ends the process with the status that the help names."""
    obey_nothing()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        raise SystemExit(0)
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        raise SystemExit(0)
    verb, *rest = arguments
    if verb not in VERBS:
        _say(f"sa: there is no verb `{verb}`. It is one of {', '.join(VERBS)}; see `sa --help`.")
        raise SystemExit(2)
    first = os.environ.get("LOCAL_RANK", "0") in ("", "0")
    _say_anything()
    safe = "--safe" in rest or is_safe()
    with _ended_by_signals() as ended, safely() if safe else nullcontext():
        _run(verb, [argument for argument in rest if argument != "--safe"], first, ended)


def _say(text: str) -> None:
    """Print text on standard error, where paths and names in it are shown and not obeyed."""
    print(shown(text), file=sys.stderr, flush=True)


def _say_anything() -> None:
    """Let no letter that a terminal cannot show end a run, nor a terminal that is not there."""
    for name, instead in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as we live
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=instead)


def _refusal(error: BaseException | None) -> str | None:
    """Say which place would not be read or written, if that is why something failed."""
    while error is not None:
        if isinstance(error, OSError) and (error.errno in PLACES or _is_of_the_cache(error)):
            named = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
            return ": ".join(filter(None, [named, error.strerror]))
        found = re.search(r"(\w[^:]*) \(os error (\d+)\)", str(error))  # as safetensors says it
        if found and int(found[2]) in PLACES:
            return found[1]
        error = error.__cause__ or error.__context__
    return None


def _is_of_the_cache(error: OSError) -> bool:
    """Say whether the cache could not be made: whatever is below its place, it is no place for one."""
    from sa_lightning.files import cache_directory

    named = error.filename
    return isinstance(named, (str, bytes)) and cache_directory().is_relative_to(os.fsdecode(named))


@contextmanager
def _ended_by_signals() -> Iterator[list[str]]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does, also where a library makes something else of them.

    Yields:
        What the signals that have come did.
    """
    came: list[str] = []
    numbers: list[int] = []

    def end(number: int, _frame: object) -> None:
        numbers.append(number)
        name = signal.Signals(number).name
        came.append("interrupted" if name == "SIGINT" else f"ended by {name}")
        raise KeyboardInterrupt

    def swallowed(error: Any) -> None:
        if not (came and issubclass(error.exc_type, KeyboardInterrupt)):
            sys.__unraisablehook__(error)
            return
        # It fell into a `__del__` or a callback, out of which nothing is raised: let it come again.
        again = threading.Timer(0.05, os.kill, (os.getpid(), numbers[-1]))
        again.daemon = True
        again.start()

    known = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            usual = (signal.SIG_DFL, signal.default_int_handler)
            if number is not None and signal.getsignal(number) in usual:
                known[number] = signal.signal(number, end)
    hook, sys.unraisablehook = sys.unraisablehook, swallowed
    try:
        yield came
    finally:
        sys.unraisablehook = hook
        for number, before in known.items():
            signal.signal(number, before)


@contextmanager
def _whatever_comes_of(ended: list[str]) -> Iterator[None]:
    """Let an error be an interruption once a signal has come: a library that was interrupted may fail in any way."""
    try:
        yield
    except BaseException as error:
        if ended and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise


def _run(verb: str, rest: list[str], first: bool, ended: list[str]) -> None:
    """Run a verb, and end the process with a status and, where it went wrong, a sentence."""
    try:
        with _whatever_comes_of(ended):
            text = first_look(verb, rest)
            if text is not None:
                print(text, end="")
                raise SystemExit(0)
            if verb in LOADED and first:
                _say(f"sa {verb}: loading {LOADED[verb]} …")
            importlib.import_module("sa_lightning.cli.common.inputs").limit_imports()
            importlib.import_module(f"sa_lightning.cli.{verb.replace('-', '_')}").run(rest)
    except SaError as error:
        if not first:
            # The first process meets the same mistake and says so. Lightning kills it, silently, as soon as
            # another one fails: give it time, and speak only if the mistake was this process's alone.
            time.sleep(5)
        _say(f"\nsa {verb}: {error}")
        raise SystemExit(2) from None
    except argparse.ArgumentError as error:
        _say(f"\nsa {verb}: {in_our_words(verb, options_for(verb), str(error))}")
        raise SystemExit(2) from None
    except IncompleteError as error:
        _say(f"\nsa {verb}: {error}")
        raise SystemExit(1) from None
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has gone: nothing more is to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        _say(
            f"\nsa {verb}: {refusal}.\nThe run could not go on; nothing half-written was left under the name of a "
            "result.\nMake room, or choose a place that is yours to write (`--output`, SA_CACHE_DIR); then repeat the "
            "command."
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        why = ended[0] if ended else "interrupted"
        on = " What was finished is kept: the same command goes on." if verb in RESUMED else ""
        _say(f"\nsa {verb}: {why}; nothing half-written was left under the name of a result.{on}")
        raise SystemExit(1) from None
    if ended:
        _say(f"\nsa {verb}: {ended[0]} before it had finished.")
        raise SystemExit(1)
