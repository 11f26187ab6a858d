"""who(1) -b: when the system was started, in the time zone of the environment."""

from __future__ import annotations

import time

from tests.platforms.emulators.kernel import Kernel, Request, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(file: str, arguments: list[str]) -> NoReturn:
    """`who -b`."""

    def work(kernel: Kernel, fault: str) -> int:
        del fault
        print(time.strftime("   .       system boot  %b %e %H:%M", time.localtime(kernel.boot_time)))
        return 0

    serve(file, Request(["who", *arguments], "get", "boot"), work)
