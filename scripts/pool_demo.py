#!/usr/bin/env python3
"""Repeat the experiment of LF_ThreadPool's author: a burst of clients, and the pool's trace.

Real sockets on 127.0.0.1. The pool begins with 1 thread, then with n; at most 5 run and 3 wait;
12 clients come at once. Each request takes a while, so that they overlap. Ends by itself.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lfscp.pool import LeaderFollowerPool

CLIENT_TIMEOUT_S = 30.0
SETTLE_TIMEOUT_S = 10.0
PAUSE_S = 0.01


class Tally(logging.Handler):
    """Counts what the trace says, and prints it."""

    COUNTED = (
        "promote new leader by notify",
        "promote new leader by add new Thread",
        "Max number of threads reached",
        "LEFT ThreadPool",
    )

    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys(self.COUNTED, 0)

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        for text in self.COUNTED:
            self.counts[text] += text in message
        print(message, flush=True)


class EchoServer:
    """Answers each connection with the bytes that it sent; the pool's threads do all of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.listener = socket.create_server(("127.0.0.1", args.port), backlog=args.clients)
        self.address = self.listener.getsockname()
        self.work_s = args.work_ms / 1000
        self.lock = threading.Lock()
        self.processing = 0
        self.most_processing = 0
        self.pool = LeaderFollowerPool(
            self.handle,
            args.name,
            max_running=args.max_running,
            max_waiting=args.max_waiting,
            wake_leader=lambda: self.listener.shutdown(socket.SHUT_RDWR),
        )

    def handle(self, pool: LeaderFollowerPool) -> None:
        """Accept as the leader, promote, then serve as a processor."""
        try:
            connection, _ = self.listener.accept()
        except OSError:
            if pool.is_shutdown:
                return
            raise
        pool.promote_new_leader()
        with connection:
            with self.lock:
                self.processing += 1
                self.most_processing = max(self.most_processing, self.processing)
            time.sleep(self.work_s)
            connection.sendall(connection.recv(100))
            with self.lock:
                self.processing -= 1

    def close(self) -> bool:
        """End the pool; True when all its threads have left."""
        self.pool.shutdown()
        is_empty = self.pool.drain(SETTLE_TIMEOUT_S)
        self.listener.close()
        return is_empty


def burst(address: tuple[str, int], clients: int) -> int:
    """Let clients call at the same moment; return how many got their own bytes back."""
    together = threading.Barrier(clients)
    answers: list[bool] = []

    def call(number: int) -> None:
        request = b"request %d" % number
        together.wait(CLIENT_TIMEOUT_S)
        with socket.create_connection(address, CLIENT_TIMEOUT_S) as connection:
            connection.sendall(request)
            answers.append(connection.recv(100) == request)

    threads = [threading.Thread(target=call, args=(k,)) for k in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answers)


def settle(pool: LeaderFollowerPool) -> None:
    """Wait until the pool is at rest; from outside there is nothing to be woken by."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while pool.running != 1 or pool.leader is None:
        if time.monotonic() > deadline:
            return
        time.sleep(PAUSE_S)


def join_one_by_one(pool: LeaderFollowerPool, threads: int, tally: Tally) -> None:
    """Start threads, each when the one before leads, waits or has left."""
    for number in range(1, threads + 1):
        pool.start(1)
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while pool.waiting + pool.running + tally.counts["LEFT ThreadPool"] < number:
            if time.monotonic() > deadline:
                return
            time.sleep(PAUSE_S)


def experiment(threads: int, args: argparse.Namespace) -> bool:
    """Run one burst on a pool that begins with so many threads; True when all went well."""
    print(f"--- begin with {threads}, {args.clients} clients", flush=True)
    tally = Tally()
    log = logging.getLogger("lfscp.pool")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(tally)
    try:
        server = EchoServer(args)
        join_one_by_one(server.pool, threads, tally)
        print(f"--- before the burst: {server.pool}", flush=True)
        answered = burst(server.address, args.clients)
        settle(server.pool)
        at_rest = str(server.pool)
        left = tally.counts["LEFT ThreadPool"]
        print("--- the burst is over", flush=True)
        is_empty = server.close()
    finally:
        log.removeHandler(tally)
    promoted = sum(tally.counts[text] for text in Tally.COUNTED[:2])
    print(f"--- at rest: {at_rest}")
    print(
        f"--- answered: {answered} of {args.clients}, promotions: {promoted} true and "
        f"{tally.counts['Max number of threads reached']} false, most at work at once: "
        f"{server.most_processing}, threads that left before the end: {left}"
    )
    return is_empty and answered == args.clients


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, nargs="+", default=[1, 5], metavar="N", help="begin with N threads")
    add("--max-running", type=int, default=5, help="0 is no limit (default 5)")
    add("--max-waiting", type=int, default=3, help="-1 is no limit (default 3)")
    add("--clients", type=int, default=12, help="how many come at once (default 12)")
    add("--work-ms", type=int, default=100, help="how long a request takes (default 100)")
    add("--port", type=int, default=0, help="0 is any free port (default)")
    add("--name", default="EchoServer", help="the pool's name (default EchoServer)")
    args = parser.parse_args()
    if min(args.threads) < 1 or args.clients < 1 or args.work_ms < 0:
        parser.error("--threads and --clients must be at least 1, --work-ms at least 0")
    if args.max_running < 0 or args.max_waiting < -1:
        parser.error("--max-running must be at least 0, --max-waiting at least -1")
    return args


def main() -> int:
    """Run the experiment for each number of threads; 0 when every client was answered."""
    args = arguments()
    results = [experiment(threads, args) for threads in args.threads]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
