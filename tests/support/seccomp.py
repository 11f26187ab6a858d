"""System calls that a sandbox refuses (seccomp(2)), from now on, for this thread and what it starts."""

import ctypes
import errno
import platform
import struct

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
CAPSET = {"x86_64": 126, "aarch64": 91}[platform.machine()]
BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # include/uapi/linux/prctl.h, seccomp.h
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
CALL, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data; little-endian
ALLOW, REFUSE = 0x7FFF0000, 0x00050000

Instruction = tuple[int, int, int, int]  # code, jumps if true and if false, operand


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(call: int, error: int = errno.EPERM, argument: int | None = None) -> None:
    """Let this call fail; only with this first argument, if one is given."""
    end = ((RETURN, 0, 0, REFUSE | error), (RETURN, 0, 0, ALLOW))
    if argument is None:
        _install((LOAD, 0, 0, CALL), (JUMP_IF_EQUAL, 0, 1, call), *end)
    else:
        looks = ((LOAD, 0, 0, FIRST_ARGUMENT), (JUMP_IF_EQUAL, 0, 1, argument))
        _install((LOAD, 0, 0, CALL), (JUMP_IF_EQUAL, 0, 3, call), *looks, *end)


def _install(*instructions: Instruction) -> None:
    program = Program(len(instructions), b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")
