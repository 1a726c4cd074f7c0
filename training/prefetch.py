"""Data made on a background thread while the device trains."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


def prefetch(make: Callable[[int], Any], start: int, stop: int, depth: int = 2) -> Iterator[Any]:
    """Yield make(start), ..., make(stop - 1), made up to `depth` ahead on another thread.

    An exception in make is raised here, at its item. Closing the iterator stops the thread.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def put(item: tuple[Any, BaseException | None]) -> None:
        while not closed.is_set():
            try:
                return ready.put(item, timeout=0.05)
            except queue.Full:
                continue

    def work() -> None:
        for index in range(start, stop):
            if closed.is_set():
                return
            try:
                put((make(index), None))
            except BaseException as error:  # handed over, whatever it is
                return put((None, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            item, error = ready.get()
            if error is not None:
                raise error
            yield item
    finally:
        closed.set()
        thread.join()
