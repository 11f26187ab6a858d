"""Print what all ends that are made on purpose are called: python -m tests.kernel.deaths [--ENGINE]... [SCENE]..."""

from __future__ import annotations

import sys

from tests.kernel.deaths.played import ENDS, matrix, play
from tests.kernel.deaths.scenes import SCENES
from tests.kernel.deaths.strange import STRANGE
from tests.kernel.deaths.stranger import STRANGER

names = [name for name in sys.argv[1:] if not name.startswith("--")]
engines = [engine for engine in ENDS if f"--{engine}" in sys.argv] or list(ENDS)
wanted = [scene for scene in (*SCENES, *STRANGE, *STRANGER) if not names or scene.name in names]
for engine in engines:
    played = play(wanted, engine)
    for name, error in played.failures.items():
        print(f"{name}: {error!r}")
    for scene in wanted:
        for end in scene.truth.keys() & ENDS[engine]:
            verdicts = played.of(scene, end)
            print(*(each for each in verdicts if not each.is_right), sep="\n", end="\n" if verdicts else "")
            if len(verdicts) != 1:
                print(f"{scene.name} at the {end}: seen {len(verdicts)} times")
    print(matrix(played, wanted, engine))
    if any(played.lost.values()):
        print(f"  counted and not reported: {sum(played.lost.values())}")
