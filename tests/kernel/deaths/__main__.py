"""Print what all ends that are made on purpose are called.

python -m tests.kernel.deaths [--ENGINE]... [--loss N] [SCENE]...
python -m tests.kernel.deaths --write [--loss N]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence

from tests.kernel.deaths import page
from tests.kernel.deaths.astray import ASTRAY
from tests.kernel.deaths.closing import CLOSING
from tests.kernel.deaths.discarding import DISCARDING
from tests.kernel.deaths.forgetting import FORGETTING
from tests.kernel.deaths.misleading import MISLEADING
from tests.kernel.deaths.played import ENDS, Row, matrix, play, rows
from tests.kernel.deaths.scenes import SCENES, Scene
from tests.kernel.deaths.strange import STRANGE
from tests.kernel.deaths.stranger import STRANGER

ALL = (*SCENES, *STRANGE, *STRANGER, *FORGETTING, *ASTRAY, *CLOSING, *MISLEADING, *DISCARDING)


def main() -> None:
    """Play what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.deaths", description=__doc__)
    for engine in ENDS:
        parser.add_argument(
            f"--{engine}", action="append_const", const=engine, dest="engines", help="this engine; without any, all"
        )
    parser.add_argument(
        "--loss", type=_percentage, default=0, metavar="N", help="the firewall loses N packets of a hundred, by chance"
    )
    parser.add_argument(
        "--write", action="store_true", help=f"also put the table into {page.PAGE.name}; all scenes, all engines"
    )
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="as it is printed; without any, all")
    asked = parser.parse_args()
    unknown = set(asked.scenes) - {scene.name for scene in ALL}
    if unknown:
        parser.error(f"no such scene: {', '.join(sorted(unknown))}")
    if asked.write and (asked.scenes or asked.engines):
        parser.error("--write takes all scenes and all engines")
    wanted = [scene for scene in ALL if not asked.scenes or scene.name in asked.scenes]
    load = os.getloadavg()[0]
    tables = {engine: show(wanted, engine, asked.loss) for engine in asked.engines or ENDS}
    if asked.write:
        page.write(tables, asked.loss, circumstances(load, os.getloadavg()[0]))


def circumstances(*loads: float) -> str:
    """Return when and where the ends were made, at these loads."""
    lowest, highest = round(min(loads)), round(max(loads))
    system = f"Linux {platform.release().partition('-')[0]}, {os.cpu_count()} processors"
    return f"{time.strftime('%Y-%m-%d')}, {system}, at a load of {lowest} to {highest}."


def _percentage(text: str) -> int:
    """Return it as a number. Raises ValueError if it is none below a hundred."""
    number = int(text)
    if not 0 <= number < 100:
        raise ValueError(text)
    return number


def show(scenes: Sequence[Scene], engine: str, loss: int) -> list[Row]:
    """Print what their ends are called where that is wrong, which are not seen, and the matrix; return its rows."""
    played = play(scenes, engine, loss)
    for name, error in played.failures.items():
        print(f"{name}: {error!r}")
    for scene in scenes:
        for end in scene.truth.keys() & ENDS[engine]:
            verdicts = played.of(scene, end)
            for each in verdicts:
                if not each.is_right:
                    print("certain: " * each.is_falsely_certain + str(each))
            if len(verdicts) != 1:
                print(f"{scene.name} at the {end}: seen {len(verdicts)} times")
    print(matrix(played, scenes, engine))
    if any(played.lost.values()):
        print(f"  counted and not reported: {sum(played.lost.values())}")
    return rows(played, scenes, engine)


if __name__ == "__main__":
    main()
