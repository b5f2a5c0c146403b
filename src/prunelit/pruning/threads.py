"""Share work out to threads that do not wait for each other until all of it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

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
        try:
            yield pool.map
        finally:
            torch.set_num_threads(number)  # what threads that are started later begin with
