"""How are many runs done at once? In processes that end with this one, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Generic, TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_END_S = 5.0


@dataclass(frozen=True)
class Done(Generic[_Task, _Result]):
    """A task that has ended, with its result or with why there is none."""

    task: _Task
    result: _Result | None = None
    error: str = ""


def run_all(
    function: Callable[[_Task], _Result], tasks: Iterable[_Task], processes: int
) -> Generator[Done[_Task, _Result], None, None]:
    """Results as they come. One task's exception is not the others'; an interrupt ends all processes.

    :param processes: 1 runs all in this process.
    """
    waiting = list(tasks)
    if processes <= 1 or len(waiting) <= 1:
        for task in waiting:
            yield _try(function, task)
        return
    # Spawned: a fork would copy whatever threads and compiled state this process has.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(waiting)), mp_context=context, initializer=_begin)
    finished = False
    try:
        # What is born while the signal is blocked never gets it: Ctrl-C is for this process alone to handle.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = {pool.submit(function, task): task for task in waiting}
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                yield Done(futures[future], future.result())
            elif isinstance(error, BrokenProcessPool):
                yield Done(futures[future], error="its process died, perhaps for want of memory")
            else:
                yield Done(futures[future], error=_one_line(error))
        finished = True
    finally:
        if not finished:
            _end_children()
        # Waits for the pool's own thread too: it may have taken a child's exit status and not noted it yet.
        pool.shutdown(cancel_futures=True)


def _try(function: Callable[[_Task], _Result], task: _Task) -> Done[_Task, _Result]:
    try:
        return Done(task, function(task))
    except Exception as error:
        return Done(task, error=_one_line(error))


def _one_line(error: BaseException) -> str:
    message = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {message}"


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's to handle, and without a parent there is nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _end())
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    _end()


def _end() -> None:
    """Leave at once, with the children that a policy may have: an exception would only end the task."""
    for child in multiprocessing.active_children():
        child.terminate()
    os._exit(143)


def _end_children() -> None:
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    for child in children:
        child.join(_END_S)
        if child.is_alive():
            child.kill()
            child.join()
