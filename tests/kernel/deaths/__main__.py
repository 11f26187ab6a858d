"""Print what all ends that are made on purpose are called: python -m tests.kernel.deaths [--netlink] [SCENE]..."""

from __future__ import annotations

import sys

from tests.kernel.deaths.played import matrix, play
from tests.kernel.deaths.scenes import SCENES

engine = "netlink" if "--netlink" in sys.argv else "bpf"
names = [name for name in sys.argv[1:] if name != "--netlink"]
wanted = [scene for scene in SCENES if not names or scene.name in names]
played = play(wanted, engine)
for name, error in played.failures.items():
    print(f"{name}: {error!r}")
for scene in wanted:
    for end in scene.truth:
        verdicts = played.of(scene, end)
        print(*(each for each in verdicts if not each.is_right), sep="\n", end="\n" if verdicts else "")
        if len(verdicts) != 1:
            print(f"{scene.name} at the {end}: seen {len(verdicts)} times")
print(matrix(played.verdicts))
