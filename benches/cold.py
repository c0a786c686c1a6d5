"""Reads segment files that are not in memory, by several ways to have the kernel fetch them: evidence of docs/decisions/0012.

usage: cold.py FOLDER [ROUNDS]   (on CPU 0; the files leave the page cache before each; MB is 10^6 bytes, a step 8 MiB)
"""

import os
import sys
import time

STEP, PIECE, BUFFER = 8 << 20, 512 << 10, bytearray(256 << 10)
NULL = os.open("/dev/null", os.O_WRONLY)


def discard(file, start, end):
    while start < end:
        start += os.sendfile(NULL, file, start, end - start)


def will_need(file, start, end, size):
    os.posix_fadvise(file, start, min(5 * STEP, size - start), os.POSIX_FADV_WILLNEED)
    for at in range(start, end, 64 << 10):
        os.pread(file, 1, at)


def send_away(file, start, end, _):
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    discard(file, start, end)


def pieces(file, start, end, _):
    for at in range(start, end, PIECE):
        size = min(PIECE, end - at)
        os.posix_fadvise(file, at, size, os.POSIX_FADV_WILLNEED)
        discard(file, at, at + size)


def copy(file, start, end, _):
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while start < end:
        start += os.preadv(file, [memoryview(BUFFER)[: end - start]], start)


WAYS = {"WILLNEED five steps ahead, a byte of each 64 KiB": will_need, "sendfile to /dev/null": send_away}
WAYS |= {"pieces of 512 KiB: WILLNEED, sendfile to /dev/null": pieces, "pread into 256 KiB": copy}


def machine_seconds():
    times = [int(field) for field in open("/proc/stat").readline().split()[1:]]
    return (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")


def main(folder, rounds="3"):
    paths = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names if name.endswith(".log")]
    files = [os.open(path, os.O_RDONLY) for path in sorted(paths)]
    total = sum(os.fstat(file).st_size for file in files)
    os.sched_setaffinity(0, {0})
    for round in range(int(rounds)):
        for name, way in sorted(WAYS.items(), reverse=round % 2 == 1):
            os.sync()
            for file in files:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            began, cpu, machine = time.monotonic(), time.process_time(), machine_seconds()
            for file in files:
                size = os.fstat(file).st_size
                for start in range(0, size, STEP):
                    way(file, start, min(start + STEP, size), size)
            seconds, cpu, machine = time.monotonic() - began, time.process_time() - cpu, machine_seconds() - machine
            rate, each = total / 1e6 / seconds, 1e9 / total
            print(f"{name}: {rate:.0f} MB/s, {cpu * each:.3f} CPU s/GB, machine {machine * each:.3f}", flush=True)


main(*sys.argv[1:])
