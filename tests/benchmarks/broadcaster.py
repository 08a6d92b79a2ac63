"""A process that broadcasts at a rate: `python -m tests.benchmarks.broadcaster RATE SECONDS HEARD`.

Each has a key of its own. The first `HEARD` of them, spread over the time, are those that the runs of W16 wait for.
"""

from __future__ import annotations

import sys
import threading
import time

import django

_THREADS = 4


def main(rate: float, seconds: float, heard: int) -> None:
    """Print how many were sent in a second."""
    from django.db import connections

    from canx_flow import send_event

    count = int(rate * seconds)
    every = count // heard if heard else count + 1
    began = time.perf_counter()

    def send(thread: int) -> None:
        for number in range(thread, count, _THREADS):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            is_heard = number % every == 0 and number // every < heard
            send_event("paid", number, key=f"order-{number // every}" if is_heard else f"nobody-{number}")
        connections.close_all()

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    django.setup()
    main(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
