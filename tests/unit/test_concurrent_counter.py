"""Sums are exact under threads, and whoever reads never loses a number."""

import threading
from concurrent.futures import ThreadPoolExecutor

from otel_drift.telemetry.concurrent_counter import PENDING, ConcurrentCounter


def test_sum_of_many_threads_with_readers_between():
    tally, stop = ConcurrentCounter(), threading.Event()

    def read() -> None:
        last = 0
        while not stop.is_set():
            now = tally.total()
            assert now >= last
            last = now

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [
            pool.submit(lambda: [tally.add(2) for _ in range(30_000)]) for _ in range(4)
        ]:
            writer.result()
        stop.set()
        for reader in readers:
            reader.result()
    assert tally.total() == 240_000


def test_nobody_reading_does_not_let_it_grow():
    tally = ConcurrentCounter()
    for _ in range(10 * PENDING):
        tally.add(1)
        assert len(tally._pending) <= PENDING
    assert tally.total() == 10 * PENDING


def test_reset_gives_a_lock_that_is_free():
    tally = ConcurrentCounter()
    tally.add(5)
    tally._lock.acquire()
    tally.reset()
    tally.add(1)
    assert tally.total() == 1
