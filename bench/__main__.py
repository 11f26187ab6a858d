"""Run benches, each in a network namespace of its own: python -m bench [NAME]...

The namespaces end with the processes in them, and these with the one that started them.
Root is needed only for that; others get a user namespace too, where the system lets them.
"""

from __future__ import annotations

import os
import subprocess
import sys

BENCHES = (
    "scan",
    "firewall",
    "containers",
    "linear",
    "arm",
    "arm_bpf",
    "connect",
    "deaths",
    "daemon",
    "cli",
    "control",
    "watch",
    "evidence",
)
LONG = ("million",)  # which are run only if they are named
# loopback up, and a TMPDIR that vanishes with the mount namespace
PREPARE = 'ip link set lo up && mount -t tmpfs tmpfs /mnt && TMPDIR=/mnt exec "$@"'


def run(name: str) -> bool:
    """Whether that bench found all requirements met."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    apart = ["unshare", "--net", "--mount", *as_root, "setpriv", "--pdeathsig", "KILL"]
    bench = [sys.executable, "-m", f"bench.{name}"]
    return subprocess.run([*apart, "sh", "-c", PREPARE, "bench", *bench], check=False).returncode == 0


def main() -> int:
    """All benches but the long ones, or those named; 1 where one missed a requirement."""
    names = sys.argv[1:] or BENCHES
    if unknown := set(names) - {*BENCHES, *LONG}:
        print(f"bench: no {' '.join(sorted(unknown))} here; there are: {' '.join(BENCHES + LONG)}", file=sys.stderr)
        return os.EX_USAGE
    missed = [name for name in names if not run(name)]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
