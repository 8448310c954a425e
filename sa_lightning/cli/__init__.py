"""`sa`: the one place where everything meets.

This file knows the verbs, and with `common.first_words` their options, so that help and plain mistakes cost nothing;
each verb lives in a file of its own, which imports what it needs when it runs.
"""

import argparse
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from sa_lightning import __version__
from sa_lightning.cli.common.first_words import first_look, new_words
from sa_lightning.cli.common.inputs import limit_imports
from sa_lightning.errors import SaError
from sa_lightning.foreign import is_safe, safely
from sa_lightning.showing import obey_nothing, shown

VERBS = {
    "quickstart": "See it work in minutes on a real chat model: fit, measure, read replies side by side.",
    "fit": "Learn: remove the harm direction from the weights, fit a safety direction for the activations.",
    "validate": "Measure every arm (original, edited, steered, both): safety, over-refusal, utility.",
    "predict": "Write replies to prompts, side by side under every arm.",
    "edit": "Weight surgery alone: checkpoints in, edited checkpoint out.",
    "judge": "Say what became of saved replies: rules, phrase lists, judge models; and how far these agree.",
    "sweep": "Try many settings on validation prompts: a grid or a search, the Pareto front, the settings to take.",
    "compare": "Methods against one another: chosen on validation prompts, reported on others, with controls.",
    "data": "The data sets of the field: licence, whether they are at hand, how to get them.",
    "export": "An artifact's steering as the file that lm-eval's own model `steered` reads.",
    "lm-eval": "lm-eval's own command line, with our model and our tasks.",
}

#: Libraries that a verb loads, which takes seconds.
LOADED: dict[str, str] = {
    **dict.fromkeys(("quickstart", "fit", "validate", "predict", "sweep", "compare"), "torch, transformers, Lightning"),
    **dict.fromkeys(("edit", "judge", "export"), "torch, transformers"),
}

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
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    safe = "--safe" in rest or is_safe()
    with _ended_by_signals() as ended, safely() if safe else nullcontext():
        _run(verb, [argument for argument in rest if argument != "--safe"], first, ended)


def _say(text: str) -> None:
    """Print text on standard error, where paths and names in it are shown and not obeyed."""
    print(shown(text), file=sys.stderr, flush=True)


@contextmanager
def _ended_by_signals() -> Iterator[list[str]]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does, also where a library would make a success of them.

    Yields:
        Names of the signals that have come.
    """
    came: list[str] = []

    def end(number: int, _frame: object) -> None:
        came.append(signal.Signals(number).name)
        raise KeyboardInterrupt

    known = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                known[number] = signal.signal(number, end)
    try:
        yield came
    finally:
        for number, before in known.items():
            signal.signal(number, before)


def _run(verb: str, rest: list[str], first: bool, ended: list[str]) -> None:
    """Run a verb, and end the process with a status and, where it went wrong, a sentence."""
    try:
        text = first_look(verb, rest)
        if text is not None:
            print(text, end="")
            raise SystemExit(0)
        if verb in LOADED and first:
            _say(f"sa {verb}: loading {LOADED[verb]} …")
        limit_imports()
        importlib.import_module(f"sa_lightning.cli.{verb.replace('-', '_')}").run(rest)
    except SaError as error:
        if not first:
            # The first process meets the same mistake and says so. Lightning kills it, silently, as soon as
            # another one fails: give it time, and speak only if the mistake was this process's alone.
            time.sleep(5)
        _say(f"\nsa {verb}: {error}")
        raise SystemExit(2) from None
    except argparse.ArgumentError as error:
        _say(f"sa {verb}: {error}\n{new_words(str(error))}`sa {verb} --help` explains the options.")
        raise SystemExit(2) from None
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has gone: nothing more is to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning makes the one into the other
        if isinstance(stop, SystemExit) and not ended:
            raise
        why = f"ended by {ended[0]}" if ended else "interrupted"
        _say(f"\nsa {verb}: {why}; nothing half-written was left under the name of a result.")
        raise SystemExit(1) from None
    if ended:
        _say(f"\nsa {verb}: ended by {ended[0]} before it had finished.")
        raise SystemExit(1)
