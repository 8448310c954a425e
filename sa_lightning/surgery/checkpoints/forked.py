"""The same in forked processes, which do not wait for one another's lock.

A child has all that its parent had in memory, computes, and sends results back through a pipe. It prints
nothing, keeps nothing, and ends when the pipe does: at the latest at its next result, should the parent be killed.
"""

import io
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count, islice
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar

import torch

__all__ = ["forked_in_order"]

T = TypeVar("T")
Item = TypeVar("Item")


def forked_in_order(work: Callable[[Item], T], items: Iterable[Item], workers: int, group: int) -> Iterator[T]:
    """Apply a function to items in forked processes, and yield the results in the order of the items.

    Args:
        work: The function; what it raises is raised here.
        items: What it is applied to.
        workers: How many processes.
        group: Items handed to a process at a time.
    """
    children: list[tuple[int, Connection]] = []
    rest, under_way = iter(items), deque[Connection]()
    try:
        children += (_fork(work) for _ in range(workers))
        for number in count():
            handed = tuple(islice(rest, group))
            if not handed:
                break
            pipe = children[number % workers][1]
            with suppress(OSError):  # of a worker that is gone, which the result tells
                pipe.send(handed)
            under_way.append(pipe)
            if len(under_way) >= 2 * workers:
                yield from _received(under_way.popleft())
        while under_way:
            yield from _received(under_way.popleft())
    finally:
        for child, pipe in children:
            pipe.close()
            os.kill(child, signal.SIGKILL)  # it holds nothing that needs an orderly end
            os.waitpid(child, 0)


def _received(pipe: Connection) -> Any:
    try:
        found, error = pipe.recv()
    except (EOFError, OSError):
        raise RuntimeError("A worker process was killed, by the system's memory limit perhaps.") from None
    if error is not None:
        raise error
    return found


def _fork(work: Callable[[Any], Any]) -> tuple[int, Connection]:
    ours, theirs = Pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside other threads: the child takes no lock that one of them may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        theirs.close()
        return child, ours
    try:
        ours.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked, and ends its children
        sys.stdout = sys.stderr = io.StringIO()  # the terminal is the parent's, and its lock may be held
        torch.set_num_threads(1)
        while True:
            handed = theirs.recv()
            try:
                theirs.send(([work(item) for item in handed], None))
            except Exception as error:  # whatever it is, it is the parent's
                theirs.send((None, error))
    finally:  # no matter what: a child never returns into its parent's work
        os._exit(0)
