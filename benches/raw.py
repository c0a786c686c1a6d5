"""Sends the segment files of a data folder over loopback by sendfile, as they are: what a replay of them is compared to.

usage: raw.py FOLDER warm|cold   (the sender runs on CPU 0, the receiver on CPU 1; cold: the files leave the page cache first)
"""

import multiprocessing
import os
import socket
import sys
import time

CHUNK = 1 << 20


def receive(port):
    os.sched_setaffinity(0, {1})
    connection, buffer = socket.create_connection(("127.0.0.1", port)), bytearray(CHUNK)
    while connection.recv_into(buffer):
        pass


def main(folder, state):
    paths = sorted(os.path.join(where, name) for where, _, names in os.walk(folder) for name in names if name.endswith(".log"))
    sizes = [os.path.getsize(path) for path in paths]
    if state == "cold":
        os.sync()
        for path in paths:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    listener = socket.create_server(("127.0.0.1", 0))
    # As the server does: BBR would pace what is sent within the machine.
    if listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).startswith(b"bbr"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    receiver = multiprocessing.Process(target=receive, args=(listener.getsockname()[1],))
    receiver.start()
    os.sched_setaffinity(0, {0})
    connection, _ = listener.accept()
    begun, cpu = time.monotonic(), time.process_time()
    for path, size in zip(paths, sizes):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            sent = 0
            while sent < size:
                sent += os.sendfile(connection.fileno(), file.fileno(), sent, min(size - sent, CHUNK))
    connection.close()
    receiver.join()
    seconds, cpu, total = time.monotonic() - begun, time.process_time() - cpu, sum(sizes)
    print(f"raw, {state}: {total / 1e9:.2f} GB, {total / 1e6 / seconds:.0f} MB/s, {cpu / total * 1e9:.3f} CPU s/GB")


main(*sys.argv[1:])
