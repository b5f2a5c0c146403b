"""Share work out to threads that do not wait for each other until all of it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

SHARES = 4
"""How many shares the tasks of each thread are divided into: handing a share over takes time."""

Map = Callable[..., Any]
"""Either ``map`` or the ``map`` of a pool of threads, which returns results in order too."""


@contextmanager
def threads(num_tasks: int) -> Iterator[Map]:
    """Give a ``map`` that shares tasks out to as many threads as torch uses, if there are 4 for each.

    In each of them torch computes with one thread. Its own threads wait for each other in every operation,
    which takes many times longer where another process uses the same cores.
    """
    number = torch.get_num_threads()
    if number < 2 or num_tasks < 4 * number:
        yield map
        return
    with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def each(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
            waiting = list(tasks)
            size = max(1, len(waiting) // (SHARES * number))
            shares = [waiting[start : start + size] for start in range(0, len(waiting), size)]
            return chain.from_iterable(pool.map(lambda share: [function(task) for task in share], shares))

        try:
            yield each
        finally:
            torch.set_num_threads(number)  # what threads that are started later begin with
