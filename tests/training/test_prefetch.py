"""Data made ahead on a thread."""

import threading

import pytest

from truncated_weights.training.prefetch import prefetch


def test_prefetch_keeps_the_order_runs_ahead_and_stops():
    made = []

    def make(index):
        made.append((index, threading.current_thread().name))
        return index * index

    before = threading.active_count()
    items = prefetch(make, 3, 100)
    assert [next(items) for _ in range(4)] == [9, 16, 25, 36]
    items.close()
    assert threading.active_count() == before
    assert [index for index, _ in made] == list(range(3, 3 + len(made)))
    assert len(made) <= 4 + 2 + 1
    assert {name for _, name in made} == {"prefetch"}


def test_an_error_on_the_background_thread_reaches_the_loop():
    def make(index):
        if index == 2:
            raise OSError("disk gone")
        return index

    items = prefetch(make, 0, 5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match="disk gone"):
        next(items)
