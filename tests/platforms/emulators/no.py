"""no(1) of AIX: `no -o NAME` prints NAME = VALUE, `no -o NAME=VALUE` sets it and checks nothing.

Unverified: what it says when it has set something, and all its words of failure.
"""

from __future__ import annotations

import sys

from tests.platforms.emulators.kernel import Kernel, Request, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(file: str, arguments: list[str]) -> NoReturn:
    """One option."""
    name, equals, value = arguments[arguments.index("-o") + 1].partition("=")

    def work(kernel: Kernel, fault: str) -> int:
        if name not in kernel.values:
            print(f"no: unknown option {name}", file=sys.stderr)
            return 1
        if not equals:
            print(f"{name} = {kernel.values[name]}")
            return 0
        if fault == "forbidden" or not kernel.root:
            print(f"no: permission denied to set {name}", file=sys.stderr)
            return 1
        if {"-p", "-r"} & set(arguments):
            kernel.values[f"persistent:{name}"] = int(value)
        kernel.store(name, int(value), fault)
        print(f"Setting {name} to {value}")
        return 0

    serve(file, Request(["no", *arguments], "set" if equals else "get", name, value), work)
