"""Work on many slices: in a few threads or processes, in order, with bounded memory."""

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

from sa_lightning.surgery.checkpoints.forked import forked_in_order
from sa_lightning.surgery.checkpoints.slices import Slice, slices

__all__ = ["Progress", "in_order", "over"]

T = TypeVar("T")
Item = TypeVar("Item")
Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

GROUP = 8  # slices a call of a worker
WORTH_FORKING = 1 << 24  # entries; with fewer, threads are done before processes have begun


def workers() -> int:
    """How many work at a time: the machine's cores, at most four, since then the disk is what is waited for."""
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def in_order(work: Callable[[Item], T], items: Iterable[Item]) -> Iterator[T]:
    """Apply a function to items in several threads, and yield the results in the order of the items.

    Only as many items as keep the threads busy are under way at a time. torch releases Python's lock in its
    operations; within each thread it is told to use no threads of its own, which would get in the way.
    """
    count = workers()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    under_way: deque[Future[list[T]]] = deque()
    rest = iter(items)
    try:
        while group := tuple(islice(rest, GROUP)):
            under_way.append(pool.submit(lambda group=group: [work(item) for item in group]))
            if len(under_way) > 2 * count:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def over(
    work: Callable[[Slice], T],
    names: Iterable[str],
    shape: Callable[[str], tuple[int, ...]],
    stage: str = "",
    progress: Progress | None = None,
    entry_bytes: int = 1,
    forks: bool = False,
) -> Generator[tuple[Slice, T], None, None]:
    """Apply a function to every slice of some tensors, in order, and report how far it is.

    Args:
        work: The function.
        names: The tensors.
        shape: Their shapes.
        stage: What is being done, for the progress.
        progress: Called after every slice with the bytes done and those to do.
        entry_bytes: Bytes that are read and written for an entry.
        forks: Whether the function may run in forked processes, where there is much to do: what it changes
            in memory is then lost, and what it returns goes through a pipe. Threads wait for Python's lock between
            any two operations: an edit of a billion entries took 8.0 s in two processes and 9.3 s in two threads.
    """
    chosen = list(names)
    total = sum(math.prod(shape(name)) for name in chosen)
    parts = chain.from_iterable(slices(name, shape(name)) for name in chosen)
    if forks and total >= WORTH_FORKING and workers() > 1 and _may_fork():
        results = forked_in_order(lambda piece: (piece, work(piece)), parts, workers(), GROUP)
    else:
        results = in_order(lambda piece: (piece, work(piece)), parts)
    done = 0
    for piece, result in results:
        yield piece, result
        done += piece.count
        if progress:
            progress(stage, done * entry_bytes, total * entry_bytes)


def _may_fork() -> bool:
    """Linux, and no CUDA context, which does not survive a fork."""
    return sys.platform == "linux" and not torch.cuda.is_initialized()
