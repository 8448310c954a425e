"""`sa` as a person types it: a process of its own, its output read, its exit status checked.

Each process is a fork of a server that has loaded the libraries and done nothing else. That saves the seconds that each
new one would spend on imports; what one does never reaches the next, nor the process that runs the tests. With `fresh`
a new interpreter is started, for tests of what is loaded, and when.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

SA = Path(sys.executable).with_name("sa")
LOADED = ("fit", "validate", "predict", "sweep", "compare", "quickstart", "edit", "judge", "lm_eval")


def sa(*arguments, cwd=None, timeout=300, fresh=False, **environment):
    """Run `sa` with these arguments, as `subprocess.run` with captured text would; `environment` is added to ours."""
    typed = [str(SA), *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "160", **environment}
    if fresh or not hasattr(os, "fork"):
        return subprocess.run(
            typed, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, env=environment
        )
    with TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        asked = {"typed": typed, "cwd": str(cwd or Path.cwd()), "environment": environment, "timeout": timeout}
        status = _ask({**asked, "out": str(out), "err": str(err)})
        if status is None:
            raise subprocess.TimeoutExpired(typed, timeout)
        return subprocess.CompletedProcess(typed, status, out.read_text(), err.read_text())


class Started:
    """`sa` with these arguments, which runs until it ends or is killed; `said` is a file for what it says."""

    def __init__(self, *arguments, said=os.devnull, **environment):
        asked = {"typed": [str(SA), *map(str, arguments)], "cwd": str(Path.cwd()), "out": os.devnull, "err": str(said)}
        self.process = _ask({**asked, "environment": {**os.environ, **environment}, "timeout": None})
        self.status = None

    def poll(self):
        """Return the exit status, or None while it runs."""
        if self.status is None:
            self.status = _ask({"poll": self.process})
        return self.status

    def kill(self):
        """End it, and all that it has started, at once."""
        if self.poll() is None:
            _ask({"kill": self.process})


def _ask(asked):
    server = _server()
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


@cache
def _server():
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.stdin.close)
    return server


def serve():
    """Answer each line of standard input, a request, with the exit status of what was asked for; null if it was killed.

    The answers go to the standard output of the server alone: its children have files in place of it.
    """
    import importlib

    sys.path.pop(0)  # this folder
    for verb in LOADED:
        importlib.import_module(f"sa_lightning.cli.{verb}")
    importlib.import_module("sa_lightning.export.lm_eval_model")
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(asked):
    if "poll" in asked:
        return _ended(asked["poll"])
    if "kill" in asked:
        return _kill(asked["kill"])
    process = os.fork()
    if process == 0:
        _become(asked)
    return process if asked["timeout"] is None else _wait(process, asked["timeout"])


def _become(asked):
    """Turn this process into the command that is asked for; never return."""
    from sa_lightning.cli import main

    status = 1
    try:
        os.setsid()  # so that what it starts ends with it
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.path[:0] = filter(None, asked["environment"].get("PYTHONPATH", "").split(os.pathsep))
        os.chdir(asked["cwd"])
        for descriptor, path in enumerate((os.devnull, asked["out"], asked["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
        sys.argv = asked["typed"]
        main(sys.argv[1:])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(process, timeout):
    """Return the exit status of a process; kill it, and all that it has started, when its time is over."""
    ends = time.monotonic() + timeout
    while time.monotonic() < ends:
        status = _ended(process)
        if status is not None:
            return status
        time.sleep(0.01)
    return _kill(process)


def _ended(process):
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _kill(process):
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)


if __name__ == "__main__":
    serve()
