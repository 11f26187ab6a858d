"""Processes that hang while they execute a program: usage: unshare --mount hung.py DIRECTORY [NUMBER].

Each has a file of a FUSE file system, mounted there, whose server takes the call that closes it and never
answers. Whenever one hangs, the id of the last is printed; all go on when this process ends.
"""

import ctypes
import os
import signal
import struct
import sys

LOOKUP, GETATTR, OPEN, FLUSH, INIT = 1, 3, 14, 25, 26  # include/uapi/linux/fuse.h
DIRECTORY, FILE = 0o40755, 0o100644
ENOSYS = 38
PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def attributes(node: int) -> bytes:
    """struct fuse_attr of the root, or of the one file."""
    mode = DIRECTORY if node == 1 else FILE
    return struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(call: int, node: int) -> bytes | None:
    """What the kernel waits for."""
    if call == INIT:
        return struct.pack("<4I2H2I2H2I", 7, 31, 65536, 0, 16, 12, 65536, 1, 1, 0, 0, 0) + bytes(24)
    if call == LOOKUP:
        return struct.pack("<4Q2I", 2, 1, 100, 100, 0, 0) + attributes(2)
    if call == GETATTR:
        return struct.pack("<Q2I", 100, 0, 0) + attributes(node)
    if call == OPEN:
        return struct.pack("<Q2I", 1, 0, 0)
    return None


def serve(fuse: int, child: int) -> None:
    """Answer all calls but that one."""
    while True:
        _, call, number, node = struct.unpack_from("<2I2Q", os.read(fuse, 1 << 18))
        if call == FLUSH:
            print(child, flush=True)
            continue
        data = answer(call, node)
        error = 0 if data is not None else -ENOSYS
        os.write(fuse, struct.pack("<IiQ", 16 + len(data or b""), error, number) + (data or b""))


def main(directory: str, number: int = 1) -> None:
    """Mount, serve, and have children hang."""
    libc = ctypes.CDLL(None, use_errno=True)
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"x", directory.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for _ in range(number):
        child = os.fork()
        if not child:
            break
    else:
        serve(fuse, child)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(fuse)
    os.open(f"{directory}/file", os.O_RDWR | os.O_CLOEXEC)
    os.execv("/bin/sleep", ["sleep", "60"])


main(sys.argv[1], *map(int, sys.argv[2:]))
