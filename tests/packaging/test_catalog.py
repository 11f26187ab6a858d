"""`journalctl -x` explains every entry, and says nothing that the entry does not know."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keepaliveD.log import entries
from keepaliveD.log.entries import MESSAGE_IDS, Entry
from keepaliveD.log.entries.entry import HANDFUL
from keepaliveD.model.actions import Arm, Because, Outcome, SetSystemKeepalive
from keepaliveD.model.connections import Connection, Due, Owner, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import NotPermitted
from keepaliveD.model.findings import Finding
from keepaliveD.model.firewall import Tracked
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import (
    Repeat,
    ReportDeaths,
    ReportDrift,
    ReportEvidence,
    ReportNearlyFull,
    ReportNotRestored,
    ReportRecord,
    ReportRewriter,
    ReportStillArmed,
    ReportStricter,
    ReportUnwatched,
)
from keepaliveD.model.results import Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, Wish
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.sockets import Unwatched
from keepaliveD.places import HANDBOOK
from keepaliveD.platforms.touching import Kind, Touched
from tests.log.test_entries import cut, documented, late, say, settings
from tests.support.ends import MEASURED, alike
from tests.support.samples import BARE

ROOT = Path(__file__).parents[2]
WITHOUT_FIELDS = ("started", "reloaded", "reload-failed", "doubtful", "scan-failed")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, ROOT / "packaging/manual/generate.py", made], check=True)
    return made / "catalog/tcp-keepalived.catalog"


def explained(catalog: Path) -> dict[str, str]:
    """The whole explanation by message id."""
    parts = re.split(r"^-- (\S+)\n", catalog.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"@(\w+)@", text))


def test_every_message_id_is_explained_and_no_other(catalog: Path) -> None:
    assert sorted(explained(catalog)) == sorted(MESSAGE_IDS.values())


def test_every_explanation_says_what_why_and_what_to_do(catalog: Path) -> None:
    """Three paragraphs after the header."""
    for text in explained(catalog).values():
        header, *paragraphs = text.strip().split("\n\n")
        assert [line.partition(": ")[0] for line in header.splitlines()] == [
            "Subject",
            "Defined-By",
            "Support",
            "Documentation",
        ]
        assert len(paragraphs) == 3


USUAL = {
    "KEEPALIVE_PATH": "office firewall",
    "KEEPALIVE_TIMEOUT_SEC": "300.0",
    "KEEPALIVE_TIMEOUT_ORIGIN": "configured in /etc/tcp-keepalived/config.toml",
    "KEEPALIVE_TIMEOUT_SOURCE": "configured",
    "KEEPALIVE_TIMEOUT_COUNTS": "packets",
    "KEEPALIVE_AT_LEAST_SEC": "310.7",
    "KEEPALIVE_SYSCTL": "net.ipv4.tcp_keepalive_probes",
    "KEEPALIVE_FOUND": "7200",
    "KEEPALIVE_VALUE": "180",
    "KEEPALIVE_NAMESPACES": "12",
    "KEEPALIVE_RESULT": "kept-by-program",
}


def test_no_line_is_wider_than_a_terminal(catalog: Path) -> None:
    """With fields as they usually are, and the three columns that journalctl puts before each line."""
    shown = re.sub(r"@(\w+)@", lambda field: USUAL.get(field[1], field[1]), catalog.read_text(encoding="utf-8"))
    lines = [line for line in shown.splitlines() if not line.startswith("Documentation: ")]  # a URI cannot be broken
    assert max(map(len, lines)) + 3 <= 80


def test_every_entry_leads_to_its_place_in_the_handbook(catalog: Path) -> None:
    """The package has the handbook where the catalog says."""
    events = {identity: event for event, identity in MESSAGE_IDS.items()}
    places = set(re.findall(r'<a id="([a-z-]+)"></a>', (ROOT / "docs/journal.md").read_text(encoding="utf-8")))
    for identity, text in explained(catalog).items():
        assert f"Documentation: file://{HANDBOOK}/journal.md#{events[identity]}\n" in text
        assert events[identity] in places
    packaged = (ROOT / "packaging/debian/tcp-keepalived.docs").read_text(encoding="utf-8").split()
    assert "docs" in packaged


def test_placeholders_are_documented_fields(catalog: Path) -> None:
    used = placeholders(catalog.read_text(encoding="utf-8"))
    assert used
    assert used <= documented("[A-Z_]{3,}")


OFF = SocketKeepalive(False, Keepalive(7200, 75, 9))
WRONG = NetworkPath("office", 240.0, Origin(Source.GUESS))
RULE = ArmRule("arm[1]", ArmAction.ENABLE, 180, 20, 31)


def armings(result: ArmingResult, *connections: Connection) -> list[Entry]:
    """What is said of sockets that were to be armed, with as little known as can be."""
    action = Arm(connections, (Wish(RULE, OFF.times),))
    known = (
        None
        if result
        in (
            ArmingResult.SUBFLOW,
            ArmingResult.OWNER_NOT_FOUND,
            ArmingResult.NOT_PERMITTED,
            ArmingResult.OTHER_USER_NAMESPACE,
        )
        else OFF
    )
    return list(entries.of(Outcome(action, armings=(Arming(connections, result, known, known),))))


def said() -> list[Entry]:
    """Entries of every event, each with as few fields as it may have."""
    stranger = dataclasses.replace(BARE, owner=Owner())
    safe = dataclasses.replace(stranger, verdict=Verdict.SAFE, due=Due.KEEPALIVE, due_in=170.0)
    kinds = (stranger, late(owner=Owner()), cut(owner=Owner()), safe)
    return [
        *(entry for kind in kinds for entry in say(kind)),
        *(entry for kind in kinds for entry in say(*[kind] * (HANDFUL + 1))),
        *say(stranger, before=Verdict.CUT),
        *(entry for because in Because for entry in settings(because)),
        *settings(Because.CONFIGURED, dry_run=True),
        *entries.of(Outcome(ReportNotRestored({"x": 1}))),
        *entries.of(Outcome(ReportRewriter({"x": 1}, {"x": Repeat(2, 3, 60.0)}, reapplied=True))),
        *entries.of(Outcome(ReportStricter({"x": 1}, {"x": 2}))),
        *entries.of(Outcome(ReportRecord(("damaged",)))),
        *entries.of(Outcome(ReportRecord(()))),
        *entries.of(Outcome(ReportDrift({"x": 1}, {"x": 2}, yielded=True))),
        *entries.of(
            Outcome(ReportUnwatched(Unwatched(3, 2, hidden=True, crowded=(1, 2, 3, 4), incomplete=(0, 1, 2, 3))))
        ),
        *entries.of(Outcome(ReportNearlyFull((Tracked(0, 9, 10), Tracked(7, 9, 10))))),
        *entries.of(Outcome(SetSystemKeepalive({}, {}, Because.DRIFT), refused=NotPermitted("no"))),
        *(entry for result in ArmingResult for entry in armings(result, stranger)),
        *(entry for result in ArmingResult for entry in armings(result, *[stranger] * (HANDFUL + 1))),
        *entries.of(Outcome(ReportDeaths(tuple(alike(facts) for _, _, facts in MEASURED.values())))),
        *entries.of(Outcome(ReportDeaths((alike(MEASURED["linger 0"][2], 7),)))),
        *entries.of(Outcome(ReportEvidence((Finding(WRONG, 300.0, FOREVER, 0, 40, is_shorter=False),)))),
        *entries.of(Outcome(ReportEvidence((Finding(WRONG, 100.0, 200.0, 3, 0, is_shorter=True),)))),
        *(
            Entry(event, entries.INFO, "")
            for event in ("started", "reloaded", "reload-failed", "doubtful", "scan-failed")
        ),
        *(entries.of_hang(Touched(1, kind, 5), 10.0) for kind in Kind),
        *entries.of(Outcome(ReportStillArmed(np.zeros(0, np.uint64), 1))),
        Entry("log-overflow", entries.WARNING, "", {"KEEPALIVE_COUNT": 3}),
    ]


def test_a_placeholder_stands_only_where_every_entry_has_the_field(catalog: Path) -> None:
    """For a field that is missing journalctl writes the field's name (sd-journal.c, lookup_field)."""
    everywhere: dict[str, set[str]] = {}
    for entry in said():
        everywhere[entry.message_id] = everywhere.get(entry.message_id, set(entry.fields)) & set(entry.fields)
    assert everywhere.keys() == set(MESSAGE_IDS.values())
    for identity, text in explained(catalog).items():
        assert placeholders(text) <= everywhere[identity]


def journalctl(root: Path, *arguments: str) -> str:
    done = subprocess.run(["journalctl", f"--root={root}", *arguments], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


def test_journald_accepts_the_catalog(catalog: Path, tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    (place / catalog.name).write_bytes(catalog.read_bytes())
    journalctl(tmp_path, "--update-catalog")
    subjects = {
        identity: text.partition("\n")[0].removeprefix("Subject: ") for identity, text in explained(catalog).items()
    }
    listed = sorted(journalctl(tmp_path, "--list-catalog").splitlines())
    assert listed == sorted(f"{identity} tcp-keepalived: {subject}" for identity, subject in subjects.items())
    for identity, text in explained(catalog).items():
        assert text.strip() in journalctl(tmp_path, "--dump-catalog", identity)
