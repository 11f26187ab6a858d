"""What a person reads and does not understand stands in the handbook: exit statuses, results of arming, forecasts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keepaliveD.log.entries.arming import UNREPORTED
from keepaliveD.model.causes import Foretold
from keepaliveD.model.errors import Exit, Refusal, unexpected
from keepaliveD.model.results import ArmingResult
from keepaliveD.records.settings import SettingsRecord
from tests.handbook.documents import ROOT, anchors
from tests.support.processes import CTL
from tests.support.rig import DIE_WITH_US, OWN_PINS

PAGE = ROOT / "docs/troubleshooting.md"
ROW = re.compile(r'^\| <a id="exit-\d+"></a>(\d+) \| (.*?) \| (?:`([^`]*)`: )?`([^`]*)` \| .* \|$', re.MULTILINE)
ROWS = {int(status): row for status, *row in ROW.findall(PAGE.read_text(encoding="utf-8"))}
WITHOUT_PRIVILEGE = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def test_every_exit_status_has_a_row_with_its_meaning() -> None:
    meanings = {each.status: (each.__doc__ or "").partition("\n")[0] for each in Refusal.__subclasses__()}
    assert {status: meaning for status, (meaning, _, _) in ROWS.items()} == meanings
    assert {f"exit-{status}" for status in Exit if status} <= anchors(PAGE)


def test_every_result_of_arming_that_is_reported_has_a_place() -> None:
    reported = {result.value.lower().replace(" ", "-") for result in set(ArmingResult) - UNREPORTED}
    assert reported <= anchors(PAGE)


def test_every_word_about_a_forecast_has_a_place() -> None:
    assert {foretold.key for foretold in Foretold} <= anchors(ROOT / "docs/deaths.md")


def _damaged(directory: Path) -> None:
    (directory / "armed").write_text("damaged\n", encoding="utf-8")


def _for_bpf(directory: Path) -> None:
    (directory / "bpf.toml").write_text('[watch]\nengine = "bpf"\n', encoding="utf-8")


def _wrong(directory: Path) -> None:
    (directory / "wrong.toml").write_text('[keepalive]\nidel = "180s"\n', encoding="utf-8")


BEFORE: dict[int, Callable[[Path], None]] = {Exit.DATAERR: _damaged, Exit.UNAVAILABLE: _for_bpf, Exit.CONFIG: _wrong}
ALONE = f'{OWN_PINS}; ip link set lo up && exec "$@"'
THROUGH = {Exit.NOPERM: WITHOUT_PRIVILEGE}


@pytest.mark.parametrize("status", sorted(set(ROWS) - {Exit.SOFTWARE}))
def test_every_example_is_what_the_program_prints(status: int, tmp_path: Path) -> None:
    """Its last line on standard error, with whatever stands for the dots, and its exit status."""
    _, command, line = ROWS[status]
    prepare = BEFORE.get(status)
    if prepare:
        prepare(tmp_path)
    with SettingsRecord(tmp_path, {}, {}).locked() if status == Exit.TEMPFAIL else open("/dev/null", "rb"):
        ended = _run(status, command, tmp_path)
    assert ended.returncode == status, ended.stderr
    assert re.fullmatch(re.escape(line).replace("…", ".+"), ended.stderr.splitlines()[-1])


def _run(status: int, command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of a row in a network namespace of its own, with a state directory of its own."""
    words, _, sink = command.partition(" > ")
    assert words.startswith("keepalivectl ")
    through = (*DIE_WITH_US, "unshare", "--net", "--mount", "sh", "-c", ALONE, "sh")
    environment = ("env", f"STATE_DIRECTORY={directory}", f"PYTHONPATH={ROOT}")
    with open(sink or "/dev/null", "wb") as output:
        return subprocess.run(
            [*through, *THROUGH.get(Exit(status), ()), *environment, sys.executable, *CTL[1:], *words.split()[1:]],
            stdout=output,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=directory,
            text=True,
            timeout=120,
            check=False,
        )


def test_a_defect_is_worded_as_the_handbook_says() -> None:
    _, _, line = ROWS[Exit.SOFTWARE]
    assert str(unexpected(ValueError("odd"))).endswith(line.removeprefix("…: "))
