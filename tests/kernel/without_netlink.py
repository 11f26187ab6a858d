"""Run a program for which AF_NETLINK does not exist, as in a sandbox.

usage: python -m tests.kernel.without_netlink PROGRAM [ARGUMENT]...
"""

import errno
import os
import socket
import sys

from tests.support import seccomp

if __name__ == "__main__":
    seccomp.refuse(seccomp.SOCKET, errno.EAFNOSUPPORT, socket.AF_NETLINK)
    os.execvp(sys.argv[1], sys.argv[1:])
