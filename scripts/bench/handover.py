"""What taking a connection costs: leader/follower pool, ThreadPoolExecutor, thread per connection.

    python scripts/bench/handover.py --markdown

Each server runs in a process of its own, accepts over the loopback, reads a byte, sends it back,
waits for the close. The client is one thread: it opens a burst of connections, sends a byte on
each, and waits for the answers. Latency: from connect() to the answer, in the order of the burst.
Cost: the server process's CPU time per connection. Rounds are interleaved over the servers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from tables import Samples, number, table

from lfscp.pool import LeaderFollowerPool
from lfscp.server.listener import Listener, ListenerClosedError, bind

_ASK_CPU = b"?"
_CPU = struct.Struct("d")
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # else the client's ports linger in TIME_WAIT
_BACKLOG = 1024
EXECUTOR_THREADS = 32  # as many as the largest burst: nobody waits for a thread
Address = tuple[str, int]


def _echo(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        byte = connection.recv(1)
        connection.sendall(_CPU.pack(time.process_time()) if byte == _ASK_CPU else byte)
        try:
            connection.recv(1)
        except ConnectionResetError:
            return  # the client's way to close


def _leader_follower(listener: socket.socket) -> None:
    accepting = Listener(listener)

    def handle(pool: LeaderFollowerPool) -> None:
        try:
            connection, _ = accepting.accept()
        except ListenerClosedError:
            return
        pool.promote_new_leader()
        _echo(connection)

    pool = LeaderFollowerPool(handle, wake_leader=accepting.wake)
    pool.start(1)
    pool.drain(None)


def _executor(listener: socket.socket) -> None:
    with ThreadPoolExecutor(EXECUTOR_THREADS) as executor:
        while True:
            executor.submit(_echo, listener.accept()[0])


def _thread_each(listener: socket.socket) -> None:
    while True:
        threading.Thread(target=_echo, args=(listener.accept()[0],), daemon=True).start()


SERVERS: dict[str, Callable[[socket.socket], None]] = {
    "leader/follower": _leader_follower,
    "ThreadPoolExecutor": _executor,
    "thread per connection": _thread_each,
}


def _serve(name: str, started: Connection) -> None:
    listener = bind(("127.0.0.1", 0), _BACKLOG)
    started.send(listener.getsockname())
    SERVERS[name](listener)


def _connect(address: Address, byte: bytes) -> socket.socket:
    client = socket.create_connection(address, timeout=30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(byte)
    return client


def _server_cpu_s(address: Address) -> float:
    with _connect(address, _ASK_CPU) as client:
        seconds: float = _CPU.unpack(client.recv(_CPU.size))[0]
        return seconds


def _burst(address: Address, size: int, latencies: Samples) -> None:
    began, clients = [], []
    for _ in range(size):
        began.append(time.perf_counter())
        clients.append(_connect(address, b"x"))
    for client, start in zip(clients, began, strict=True):
        if client.recv(1) != b"x":
            raise ConnectionError("the server closed without an answer")
        latencies.add_seconds(time.perf_counter() - start)
    for client in clients:
        client.close()


class _Running:
    """One server in a process of its own."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, theirs), daemon=True)
        self._process.start()
        self.address: Address = ours.recv()

    def stop(self) -> None:
        """End it: it has nothing to finish."""
        self._process.kill()
        self._process.join()


def measure(bursts: list[int], rounds: int, connections: int) -> dict[tuple[str, int], Any]:
    """Latencies and CPU per connection for each server and size of burst."""
    servers = {name: _Running(name) for name in SERVERS}
    found = {(name, size): (Samples(), Samples()) for name in SERVERS for size in bursts}
    try:
        for at in range(rounds + 1):
            for (name, size), (latencies, costs) in found.items():
                address = servers[name].address
                cpu_s = _server_cpu_s(address)
                count = max(1, connections // size)
                into = latencies if at else Samples()  # the first round warms up
                for _ in range(count):
                    _burst(address, size, into)
                if at:
                    costs.add_seconds((_server_cpu_s(address) - cpu_s) / (count * size))
    finally:
        for server in servers.values():
            server.stop()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bursts", default="1,8,32", help="connections at once: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument(
        "--connections", type=int, default=1000, help="per round and server; default: %(default)s"
    )
    parser.add_argument("--markdown", action="store_true", help="with a heading above the table")
    arguments = parser.parse_args()
    bursts = [int(size) for size in arguments.bursts.split(",")]
    found = measure(bursts, arguments.rounds, arguments.connections)
    rows = [
        [
            f"{name}, bursts of {size}",
            number(latencies.least),
            number(latencies.median),
            number(latencies.quantile(0.99)),
            number(costs.least),
            number(costs.median),
        ]
        for (name, size), (latencies, costs) in sorted(found.items(), key=lambda each: each[0][1])
    ]
    header = ["µs", "latency: least", "p50", "p99", "CPU each: least", "median"]
    print(f"{'### ' if arguments.markdown else ''}Taking a connection\n")
    print(table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
