"""Processes that wait for ever for a file whose server does not answer, as for one of a file server that died.

usage: unshare --mount mute.py DIRECTORY executing NUMBER    NUMBER processes hang while they execute a program
       unshare --mount mute.py DIRECTORY sending ADDRESS     a process locks a socket for as long as it lives
       unshare --mount mute.py DIRECTORY running COMMAND     a shell runs this, which may read files there

The file is in a FUSE file system, mounted there. To execute a program closes it; to send it from memory reads it,
while the kernel keeps the socket locked, so that whoever asks for that waits. The id of each process is printed when
it waits; all go on when this process ends.
"""

import ctypes
import mmap
import os
import signal
import socket
import struct
import sys

LOOKUP, GETATTR, OPEN, READ, FLUSH, INIT = 1, 3, 14, 15, 25, 26  # include/uapi/linux/fuse.h
DIRECTORY, FILE = 0o40755, 0o100644
ENOSYS = 38
PAGE = 4096
PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def attributes(node: int) -> bytes:
    """struct fuse_attr of the root, or of the one file."""
    mode = DIRECTORY if node == 1 else FILE
    return struct.pack("<6Q10I", node, PAGE, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)


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
    """Answer all calls but those two."""
    while True:
        _, call, number, node = struct.unpack_from("<2I2Q", os.read(fuse, 1 << 18))
        if call in (READ, FLUSH):
            print(child, flush=True)
            continue
        data = answer(call, node)
        error = 0 if data is not None else -ENOSYS
        os.write(fuse, struct.pack("<IiQ", 16 + len(data or b""), error, number) + (data or b""))


def execute(file: str) -> None:
    """Hang in execve(2), which closes the file."""
    os.open(file, os.O_RDWR | os.O_CLOEXEC)
    with open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write(f"mute{os.getppid()}")
    os.execv("/bin/sleep", ["sleep", "60"])


def send(file: str, address: str) -> None:
    """Hang in sendmsg(2), which reads the file."""
    listener = socket.create_server((address, 0))
    near = socket.create_connection(listener.getsockname())
    near.send(mmap.mmap(os.open(file, os.O_RDONLY), PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ))


def main(directory: str, what: str, how: str) -> None:
    """Mount, serve, and have children hang."""
    libc = ctypes.CDLL(None, use_errno=True)
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"x", directory.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for _ in range(int(how) if what == "executing" else 1):
        child = os.fork()
        if not child:
            break
    else:
        serve(fuse, child)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(fuse)
    if what == "executing":
        execute(f"{directory}/file")
    elif what == "running":
        os.execv("/bin/sh", ["sh", "-c", how])
    else:
        send(f"{directory}/file", how)


main(*sys.argv[1:])
