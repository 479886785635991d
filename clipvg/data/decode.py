"""Images, decoded ahead in threads: the stream that all passes without augmentation read."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from clipvg.errors import InputError

MAX_WORKERS = 16

C = TypeVar("C")
S = TypeVar("S")
T = TypeVar("T")


def decode(
    chunks: Iterable[tuple[C, Sequence[S]]],
    load: Callable[[S], T],
    *,
    workers: int | None = None,
) -> Generator[tuple[C, list[T | InputError]], None, None]:
    """Yield chunks with their images, while the images of the next chunk are decoded.

    Args:
        chunks: anything, with the files that belong to it; in the order wanted.
        load: what to make of a file, such as `load_squares`.
        workers: number of threads; None is one a core, at most 16; 0 decodes here, when asked.

    Yields:
        A chunk, and for each of its files what `load` made of it or why it cannot be read.
    """
    if workers == 0:
        for chunk, paths in chunks:
            yield chunk, [_attempt(load, path) for path in paths]
        return
    waiting: deque[tuple[C, list[Future[T | InputError]]]] = deque()
    pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, MAX_WORKERS))
    try:
        for chunk, paths in chunks:
            waiting.append((chunk, [pool.submit(_attempt, load, path) for path in paths]))
            if len(waiting) > 1:
                yield _ready(*waiting.popleft())
        while waiting:
            yield _ready(*waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _attempt(load: Callable[[S], T], path: S) -> T | InputError:
    try:
        return load(path)
    except InputError as error:
        return error


def _ready(chunk: C, jobs: list[Future[T | InputError]]) -> tuple[C, list[T | InputError]]:
    return chunk, [job.result() for job in jobs]
