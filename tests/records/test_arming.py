"""Which sockets were armed, and what stood there before: nothing is lost by kill -9."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.errors import Busy, NotPermitted, StateError
from keepaliveD.model.keepalive import ALL, Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, Entry, Mark, PutBack
from keepaliveD.model.sockets import SocketTable, Unwatched
from keepaliveD.records import lines as lines_of_record
from keepaliveD.records.arming import FILE, SPARE, ArmingRecord
from keepaliveD.records.entries import Entries, Whose
from tests.support.descriptors import open_descriptors
from tests.support.tables import named
from tests.support.unprivileged import as_nobody, reachable_directory

BOOT = "b00t"
HEADING = f"tcp-keepalived armed 2 {BOOT}\n"
EARLIER = f"tcp-keepalived armed 1 {BOOT}\n"  # the heading of format 1
OFF = SocketKeepalive(False, Keepalive(7200, 75, 9))
ON = SocketKeepalive(True, Keepalive(180, 20, 31))
OURS, OTHERS = 7, 8  # network namespaces
SEES_NOTHING = replace(named(), complete=False, unread=None)


def recorder(directory: Path, boot: str = BOOT) -> ArmingRecord:
    """That of a process that has just started."""
    return ArmingRecord(directory, boot)


def armed(*cookies: int) -> dict[int, Armed]:
    return dict.fromkeys(cookies, Armed(OFF, ON, ALL))


def known(directory: Path) -> list[int]:
    """What a process that starts now learns of."""
    return sorted(recorder(directory).armed())


# one process


SETTINGS = st.builds(
    SocketKeepalive,
    st.booleans(),
    st.builds(Keepalive, st.integers(-1, 2**31 - 1), st.integers(-1, 2**31 - 1), st.integers(0, 255)),
)

INHERITED = st.integers(0, 7).map(Own)
ENTRIES = st.builds(Armed, SETTINGS, SETTINGS, INHERITED) | st.builds(PutBack, SETTINGS, INHERITED)


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), ENTRIES)))
def test_what_was_recorded_is_what_is_known(records: list[tuple[int, Entry]]) -> None:
    """To whoever recorded it and to the next process; sysctls also hold 0, -1 and more than a socket takes."""
    with reachable_directory() as directory:
        writer = recorder(directory)
        for cookie, each in records:
            writer.write({cookie: each})
        assert writer.entries() == recorder(directory).entries()
        assert writer.entries() == dict(records)


def test_where_nothing_was_ever_armed_nothing_is_known_and_nothing_made(tmp_path: Path) -> None:
    """A look at it is no reason for a directory."""
    keeper = recorder(tmp_path / "state")
    assert keeper.armed() == {}
    keeper.write({})
    keeper.write(dict.fromkeys([], Mark.LEFT_ALONE))
    keeper.tidy(named())
    assert list(tmp_path.iterdir()) == []


def test_the_first_record_makes_directory_and_file_for_their_owner_alone(tmp_path: Path) -> None:
    """Which connections a host has is nobody else's business."""
    recorder(tmp_path / "state").write(armed(1))
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600


def test_it_is_text_that_a_person_can_read(tmp_path: Path) -> None:
    keeper = recorder(tmp_path)
    keeper.write({4711: Armed(OFF, ON, Own.IDLE | Own.PROBES)})
    keeper.write(dict.fromkeys([4711], Mark.LEFT_ALONE))
    keeper.write(dict.fromkeys([4711], Mark.NOT_ARMED))
    lines = ["4711 0 7200 75 9 1 180 20 31 5", "4711 -", "4711 0"]
    written = (tmp_path / FILE).read_text().splitlines()
    assert [line.rpartition(" ")[0] for line in written] == [HEADING.rpartition(" ")[0], *lines]


@pytest.mark.parametrize("content", ["", HEADING])
def test_a_record_goes_into_a_file_that_is_there_and_empty(tmp_path: Path, content: str) -> None:
    """As touch(1) leaves it, or a process that was killed right after it made the file."""
    (tmp_path / FILE).write_text(content)
    recorder(tmp_path).write(armed(1))
    assert (tmp_path / FILE).read_text().count(HEADING) == 1
    assert known(tmp_path) == [1]


def test_what_was_put_back_is_forgotten_until_it_is_armed_again(tmp_path: Path) -> None:
    keeper = recorder(tmp_path)
    keeper.write(armed(1, 2))
    keeper.write(dict.fromkeys([1, 77], Mark.LEFT_ALONE))
    assert known(tmp_path) == sorted(keeper.armed()) == [2]
    keeper.write({1: Armed(ON, OFF)})
    assert recorder(tmp_path).armed()[1] == Armed(ON, OFF)


def test_what_a_daemon_has_put_back_as_it_ended_is_known_to_the_next_one_and_not_armed(tmp_path: Path) -> None:
    keeper = recorder(tmp_path)
    keeper.write({**armed(1, 2), 3: Mark.LEFT_ALONE})
    keeper.write({1: PutBack(OFF, ALL)})
    keeper.hand_over(SEES_NOTHING)
    after = recorder(tmp_path)
    assert (after.entries()[1], sorted(after.armed())) == (PutBack(OFF, ALL), [2])
    after.write(armed(1, 2))
    assert (after.armed_here(first=True).tolist(), after.armed()[1]) == ([1], Armed(OFF, ON, ALL))


def test_what_was_put_back_into_sockets_that_are_gone_is_cleared_away_by_whoever_comes_next(tmp_path: Path) -> None:
    """Each stop leaves as many lines as sockets were armed."""
    recorder(tmp_path).write(dict.fromkeys(range(1, SPARE + 10), PutBack(OFF, ALL)))
    after = recorder(tmp_path)
    assert len(after.entries()) == SPARE + 9
    after.tidy(named(3))
    assert list(recorder(tmp_path).entries()) == [3]


# another boot, a killed process, a broken file


def test_a_record_of_another_boot_is_of_sockets_that_are_gone(tmp_path: Path) -> None:
    """Cookies begin anew with the boot: it must not be taken for one of these."""
    recorder(tmp_path, "earlier").write(armed(1, 2, 3))
    keeper = recorder(tmp_path)
    assert keeper.armed() == {}
    keeper.write(armed(2))
    assert known(tmp_path) == [2]
    assert "earlier" not in (tmp_path / FILE).read_text()


def test_a_record_of_another_boot_stays_until_there_is_something_to_record(tmp_path: Path) -> None:
    """To look is not to write."""
    recorder(tmp_path, "earlier").write(armed(1))
    before = (tmp_path / FILE).read_bytes()
    recorder(tmp_path).armed()
    assert (tmp_path / FILE).read_bytes() == before


def test_a_boot_whose_name_begins_like_ours_is_another(tmp_path: Path) -> None:
    recorder(tmp_path, BOOT + "2").write(armed(1))
    assert known(tmp_path) == []


@pytest.mark.parametrize("cut", range(1, len(HEADING) + 1))
def test_half_a_heading_is_none(tmp_path: Path, cut: int) -> None:
    """kill -9 in the middle of the very first write."""
    (tmp_path / FILE).write_text(HEADING[: len(HEADING) - cut])
    keeper = recorder(tmp_path)
    assert keeper.armed() == {}
    keeper.write(armed(1))
    assert known(tmp_path) == [1]
    assert (tmp_path / FILE).read_text().startswith(HEADING)


def test_a_line_that_is_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    """A reader does not wait for a writer."""
    recorder(tmp_path).write(armed(1, 2))
    whole = (tmp_path / FILE).read_bytes()
    reader = recorder(tmp_path)
    for size in range(len(whole) + 1):
        (tmp_path / FILE).write_bytes(whole[:size])
        assert set(reader.armed()) <= {1, 2}
    assert sorted(reader.armed()) == [1, 2]


# several processes

WRITER = """
import sys
from pathlib import Path
from tests.records.test_arming import Mark, armed, named, recorder

keeper, first = recorder(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for cookie in range(first, first + 150):
    keeper.write(armed(cookie))
    if cookie % 3 == 0:
        keeper.write(dict.fromkeys([cookie], Mark.LEFT_ALONE))
    if sys.argv[3] == "tidy" and cookie % 5 == 0:
        keeper.tidy(named(*range(1, 10_000)))
    print(cookie, flush=True)
"""


def writer(directory: Path, first: int, tidy: str = "") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(first), tidy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """The daemon, and keepalivectl beside it."""
    writers = [writer(tmp_path, 1000), writer(tmp_path, 2000)]
    for each in writers:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in writers:
        each.communicate()
        assert each.returncode == 0
    expected = [cookie for first in (1000, 2000) for cookie in range(first, first + 150) if cookie % 3]
    assert known(tmp_path) == expected
    assert (tmp_path / FILE).read_text().count(HEADING) == 1


def test_whatever_was_recorded_before_kill_9_is_known_afterwards(tmp_path: Path) -> None:
    """A socket is set only once write() has returned: what it has not said, it has not touched."""
    killed = writer(tmp_path, 1000)
    assert killed.stdin
    assert killed.stdout
    killed.stdin.write("go\n")
    killed.stdin.flush()
    said = [int(killed.stdout.readline()) for _ in range(20)]
    killed.kill()
    said += [int(line) for line in killed.communicate()[0].splitlines()]
    recorded = known(tmp_path)
    assert {cookie for cookie in said if cookie % 3} <= set(recorded)
    recorder(tmp_path).write(armed(1))
    assert known(tmp_path) == [1, *recorded]


def test_what_another_process_records_is_known_to_all_without_a_restart(tmp_path: Path) -> None:
    daemon, by_hand = recorder(tmp_path), recorder(tmp_path)
    daemon.write(armed(1))
    by_hand.write(armed(2))
    assert sorted(daemon.armed()) == [1, 2]
    daemon.write(dict.fromkeys([2], Mark.LEFT_ALONE))
    assert sorted(by_hand.armed()) == [1]


@pytest.mark.parametrize("since", [{1: Armed(OFF, ON)}, {1: Mark.LEFT_ALONE}])
def test_what_another_process_has_recorded_since_it_was_looked_at_stays(
    tmp_path: Path, since: Mapping[int, Entry]
) -> None:
    """Also an entry that reads the same: it is the other's, who sets or has set what it says."""
    daemon, by_hand = recorder(tmp_path), recorder(tmp_path)
    looked_at = daemon.known([1, 2]).turn
    by_hand.write(since)
    new = {1: Armed(ON, ON), 2: Armed(OFF, ON)}
    assert daemon.write(new, looked_at) == {1}
    for record in (daemon, by_hand, recorder(tmp_path)):
        assert record.entries() == {**since, 2: Armed(OFF, ON)}
    assert daemon.write({1: Armed(ON, ON)}, daemon.known([1]).turn) == set()


def test_what_is_left_from_an_older_reading_does_not_cover_a_newer_arming(tmp_path: Path) -> None:
    """Where it reads the same as before, too: it was written after that look."""
    daemon, by_hand = recorder(tmp_path), recorder(tmp_path)
    mine = {1: Armed(OFF, ON)}
    daemon.write(mine)
    written = daemon.turn
    by_hand.write({1: Armed(OFF, ON)})
    assert daemon.write({1: Mark.LEFT_ALONE}, written) == {1}
    assert recorder(tmp_path).armed() == mine


def test_what_another_process_took_out_of_the_file_since_it_was_looked_at_has_changed(tmp_path: Path) -> None:
    """A new file says nothing of a socket that the file before named; of others it says nothing new."""
    daemon, by_hand = recorder(tmp_path), recorder(tmp_path)
    by_hand.write(dict.fromkeys([1], Mark.LEFT_ALONE))
    looked_at = daemon.known([1, 2]).turn
    by_hand.hand_over(SEES_NOTHING)
    assert daemon.changed([1, 2], looked_at).entries == {1: Mark.NOT_ARMED}
    assert daemon.write(armed(1, 2), looked_at) == {1}
    assert known(tmp_path) == [2]


def test_what_was_armed_here_is_known_and_whether_somebody_had_armed_it_before(tmp_path: Path) -> None:
    recorder(tmp_path).write(armed(1))
    keeper = recorder(tmp_path)
    keeper.write(armed(1, 2, 3, 4))
    keeper.write(armed(5), whose=Whose.EARLIER)
    keeper.write({3: Mark.NOT_ARMED})
    keeper.write({4: Armed(ON, OFF)}, whose=Whose.OTHERS)
    assert keeper.armed_here().tolist() == [1, 2, 5]
    assert keeper.armed_here(first=True).tolist() == [2]


def test_what_another_process_arms_again_is_no_longer_left(tmp_path: Path) -> None:
    daemon, by_hand = recorder(tmp_path), recorder(tmp_path)
    daemon.write(dict.fromkeys([1, 2], Mark.LEFT_ALONE))
    by_hand.write(armed(1))
    assert (daemon.left_alone(), sorted(daemon.armed())) == ({2}, [1])


def test_a_file_that_tidy_replaces_while_another_waits_for_it_is_not_written_into(tmp_path: Path) -> None:
    """It would write into a file without a name."""
    keeper, waiting = recorder(tmp_path), recorder(tmp_path)
    keeper.write(armed(*range(1, SPARE + 10)))
    really = fcntl.flock
    replaced: list[int] = []

    def replaced_meanwhile(file: int, operation: int) -> None:
        if not replaced:
            replaced.append(file)
            keeper.tidy(named(5))
        really(file, operation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", replaced_meanwhile)
        waiting.write(armed(4711))
    assert replaced
    assert known(tmp_path) == sorted(keeper.armed()) == [5, 4711]


def test_a_file_that_was_replaced_and_grew_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Where another one's end was says nothing of it."""
    daemon, reader = recorder(tmp_path), recorder(tmp_path)
    daemon.write(armed(*range(1, SPARE + 10)))
    assert len(reader.armed()) == SPARE + 9
    daemon.tidy(named(5))
    daemon.write(armed(*range(5000, 5000 + 2 * SPARE)))
    assert sorted(reader.armed()) == [5, *range(5000, 5000 + 2 * SPARE)]


def test_a_file_that_took_the_place_of_one_that_was_removed_is_read_from_its_beginning(tmp_path: Path) -> None:
    """As ext4 does: a new file gets the number of one that is gone, and it may be longer by then."""
    ours = recorder(tmp_path)
    ours.write(armed(1, 2))
    (tmp_path / FILE).unlink()
    recorder(tmp_path).write(armed(*range(100, 120)))
    assert set(ours.armed()) == set(range(100, 120))
    ours.write(armed(3))
    assert known(tmp_path) == [3, *range(100, 120)]


def test_who_has_the_record_locked_is_named_and_not_waited_for_without_end(tmp_path: Path) -> None:
    """As keepalivectl does that somebody stopped by Ctrl-Z."""
    ours = ArmingRecord(tmp_path, BOOT, patience=0.0)
    ours.write(armed(1))
    holder = ["flock", str(tmp_path / FILE), "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        with pytest.raises(Busy, match=rf"/armed: process {process.pid} \(flock\) has it locked"):
            ours.write(armed(2))
        assert set(ours.armed()) == {1}, "reading needs no lock"
        process.communicate(timeout=60)
    ours.write(armed(2))
    assert known(tmp_path) == [1, 2]


@pytest.mark.parametrize("empty", [False, True])
def test_what_was_removed_while_it_is_known_is_written_again(tmp_path: Path, empty: bool) -> None:
    """Sockets stay armed when their record is gone, and nothing else could disarm them."""
    ours = recorder(tmp_path)
    ours.write(armed(1, 2))
    assert not ours.tend()
    (tmp_path / FILE).unlink()
    if empty:
        (tmp_path / FILE).touch(mode=0o600)
    ours.write(armed(3))
    assert known(tmp_path) == [1, 2, 3]
    shutil.rmtree(tmp_path)
    assert ours.tend()
    assert known(tmp_path) == [1, 2, 3]
    assert not ours.tend()


STRANGE = [
    b"hello\n",
    b"tcp-keepalived armed 2 earlier\n",
    f"tcp-keepalived armed 3 {BOOT}\n".encode(),
    f"{HEADING}5 1 2 3\n".encode(),
]


@pytest.mark.parametrize("content", STRANGE)
@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_in_whose_place_something_else_was_put_is_written_again(
    tmp_path: Path, content: bytes, in_place: bool
) -> None:
    """As the daemon does at each scan: it knows what the file said."""
    keeper = recorder(tmp_path)
    keeper.write({**armed(1, 2, 3), 4: Mark.LEFT_ALONE})
    if not in_place:
        (tmp_path / FILE).unlink()
    (tmp_path / FILE).write_bytes(content)
    told = keeper.set_aside()
    keeper.tend()
    assert known(tmp_path) == [1, 2, 3]
    assert (set(keeper.armed()), keeper.left_alone()) == ({1, 2, 3}, {4})
    if told:
        assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    assert keeper.set_aside() == told
    keeper.write(armed(9))
    assert known(tmp_path) == [1, 2, 3, 9]


def test_a_file_that_was_replaced_twice_is_read_from_its_beginning(tmp_path: Path) -> None:
    ours, other = recorder(tmp_path), recorder(tmp_path)
    other.write(armed(1, 2))
    assert set(ours.armed()) == {1, 2}
    for cookie in (10, 20):
        other.write({cookie: Mark.LEFT_ALONE})
        other.hand_over(SEES_NOTHING)
        other.write(armed(*range(cookie * 10, cookie * 10 + 9)))
    assert set(ours.armed()) == set(known(tmp_path)) == {1, 2, *range(100, 109), *range(200, 209)}
    assert ours.damaged() == ()


def test_a_descriptor_is_never_left_open(tmp_path: Path) -> None:
    """The daemon lives for months."""
    keeper = recorder(tmp_path)
    keeper.write(armed(0))
    before = open_descriptors()
    for cookie in range(1, 20):
        keeper.write(armed(cookie))
        keeper.armed()
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    for _ in range(3):
        with pytest.raises(StateError):
            keeper.write(armed(1))
    assert open_descriptors() <= before


# what cannot be written


def test_where_nothing_can_be_recorded_that_is_said_in_one_line() -> None:
    """File, reason, and what follows from it."""
    with reachable_directory() as directory, as_nobody():
        with pytest.raises(NotPermitted) as refused:
            recorder(directory).write(armed(1))
        with pytest.raises(NotPermitted):
            recorder(directory / "below").write(armed(1))
    assert str(refused.value) == (
        f"{directory}/armed: cannot be written: Permission denied; run as root, or choose another --state-dir"
    )


def test_a_record_that_may_not_be_read_is_no_empty_one() -> None:
    """Who took it for one would arm what somebody has set again."""
    with reachable_directory() as directory:
        recorder(directory).write(armed(1))
        (directory / FILE).chmod(0)
        with as_nobody(), pytest.raises(NotPermitted, match=r"armed: cannot be read: Permission denied"):
            recorder(directory).armed()


def test_a_directory_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StateError, match="cannot be read: it is not a plain file"):
        recorder(tmp_path).armed()
    with pytest.raises(StateError, match="cannot be written: it is not a plain file"):
        recorder(tmp_path).write(armed(1))


# growth


def test_sockets_that_are_gone_are_cleared_away_once_they_are_many(tmp_path: Path) -> None:
    """Backups open new ones every night. What others recorded is kept: we may not even look at their sockets."""
    keeper = recorder(tmp_path)
    keeper.write(armed(*range(1, SPARE + 10)))
    recorder(tmp_path).write(armed(4711, 4712))
    keeper.tidy(named(3, 4711, 99_999))
    assert known(tmp_path) == sorted(keeper.armed()) == [3, 4711, 4712]
    assert (tmp_path / FILE).read_text().count("\n") == 4
    keeper.write(armed(8))
    assert known(tmp_path) == [3, 8, 4711, 4712]


def test_a_few_that_are_gone_are_not_worth_a_new_file(tmp_path: Path) -> None:
    """It is looked at after every scan."""
    keeper = recorder(tmp_path)
    keeper.write(armed(*range(1, SPARE + 3)))
    before = (tmp_path / FILE).stat()
    keeper.tidy(named(1))
    keeper.tidy(named(1))
    assert (tmp_path / FILE).stat() == before
    keeper.write(armed(SPARE + 3))
    keeper.tidy(named(1))
    assert (tmp_path / FILE).stat().st_ino != before.st_ino


def test_however_many_come_and_go_it_stays_small(tmp_path: Path) -> None:
    keeper = recorder(tmp_path)
    for first in range(1, 40_000, 500):
        keeper.write(armed(*range(first, first + 500)))
        keeper.tidy(named(*range(first, first + 500)))
    assert (tmp_path / FILE).stat().st_size < 50 * (3 * 500 + SPARE)
    assert len(keeper.armed()) < 3 * 500 + SPARE


CROWDED = Unwatched(crowded=(OTHERS,))


@pytest.mark.parametrize(
    ("later", "left"),
    [
        (replace(named(3, netns=OURS), complete=False, unwatched=CROWDED, read=(OURS,), unread=(OTHERS,)), 1),
        (replace(named(), complete=False, unwatched=CROWDED, unread=(OTHERS,)), 0),
        (replace(named(3, netns=OURS), unwatched=Unwatched(hidden=True), read=(OURS,), unread=None), 1),
        (replace(named(3, netns=OURS), complete=False, unwatched=CROWDED, read=(OTHERS,), unread=(OURS,)), None),
        (replace(named(), unwatched=Unwatched(silent=(OURS,)), unread=(OURS,)), None),
        (replace(named(), unwatched=Unwatched(hidden=True), unread=None), None),
    ],
    ids=[
        "cleared away where another namespace is not read completely",
        "cleared away with their namespace",
        "cleared away where there may be other namespaces",
        "kept where their own is not read completely",
        "kept where their own does not answer",
        "kept where their own may be one that cannot be seen",
    ],
)
def test_sockets_that_are_gone_are(tmp_path: Path, later: SocketTable, left: int | None) -> None:
    """With a namespace of one bucket any user kept all of them on record, until it could not be read any more."""
    keeper = recorder(tmp_path)
    all_of_them = range(1, SPARE + 10)
    keeper.write(armed(*all_of_them))
    keeper.tidy(replace(named(*all_of_them, netns=OURS), read=(OURS, OTHERS)))
    keeper.tidy(later)
    assert len(known(tmp_path)) == (len(all_of_them) if left is None else left)


def test_sockets_of_which_the_namespace_is_not_known_are_kept_unless_all_are_read(tmp_path: Path) -> None:
    keeper = recorder(tmp_path)
    keeper.write(armed(*range(1, SPARE + 10)))
    keeper.tidy(replace(named(), complete=False, unwatched=CROWDED, read=(OURS,), unread=(OTHERS,)))
    assert len(known(tmp_path)) == SPARE + 9
    keeper.tidy(replace(named(), read=(OURS, OTHERS)))
    assert known(tmp_path) == []


def test_what_has_ended_is_not_handed_over_to_whoever_comes_next(tmp_path: Path) -> None:
    """A keepalivectl disarm that cannot read all connections would not find it."""
    keeper = recorder(tmp_path)
    recorder(tmp_path).write(armed(4711))
    keeper.write(armed(1, 2, 3))
    keeper.tidy(replace(named(1, 2, netns=OURS), read=(OURS, OTHERS)))
    keeper.hand_over(replace(named(1, netns=OURS), complete=False, unwatched=CROWDED, read=(OURS,), unread=(OTHERS,)))
    assert known(tmp_path) == [1, 3, 4711], "3 was never seen, and may be where not all is read"


def test_a_record_that_is_full_takes_no_more_armed_sockets_and_is_read_and_disarmed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grew until it was too large to be read, and then nothing could be disarmed."""
    monkeypatch.setattr("keepaliveD.records.arming.FULL", 6_000)
    monkeypatch.setattr("keepaliveD.records.arming.LARGEST", 8_000)
    keeper = recorder(tmp_path)
    keeper.write(armed(*range(1, 91)))
    with pytest.raises(StateError, match="armed: is full, with 90 sockets: no more are armed until some"):
        keeper.write(armed(*range(1001, 1091)))
    assert known(tmp_path) == list(range(1, 91))
    for _ in range(5):
        keeper.write(dict.fromkeys(range(1, 91), Mark.LEFT_ALONE))
        keeper.write(dict.fromkeys(range(1, 91), PutBack(OFF, ALL)))
    assert (tmp_path / FILE).stat().st_size <= 8_000
    assert known(tmp_path) == []


def test_a_record_is_not_full_of_what_stood_there_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each arming of the same sockets adds lines, as after each reload."""
    monkeypatch.setattr("keepaliveD.records.arming.FULL", 6_000)
    keeper = recorder(tmp_path)
    for _ in range(5):
        keeper.write(armed(*range(1, 60)))
    assert known(tmp_path) == list(range(1, 60))


def test_of_distinct_settings_only_those_are_remembered_that_stand_somewhere() -> None:
    """A program chooses as many as it likes."""
    entries = Entries()
    entries.put({each: Armed(OFF, SocketKeepalive(True, Keepalive(180, each, 9)), ALL) for each in range(1, 5_000)})
    kept = entries.all()[4_711]
    entries.keep(entries.rows["cookie"] == 4_711)
    assert dict(entries.all()) == {4_711: kept}
    assert len(entries.all().kinds) == 3
    entries.put({1: kept, 2: Mark.LEFT_ALONE})
    assert dict(entries.all()) == {1: kept, 2: Mark.LEFT_ALONE, 4_711: kept}
    assert len(entries.all().kinds) == 3


# records that were cut off or damaged


def a_record(directory: Path) -> bytes:
    """Of a few sockets."""
    keeper = recorder(directory)
    keeper.write(armed(4711, 5))
    keeper.write({6: Armed(ON, OFF)})
    keeper.write(dict.fromkeys([5], Mark.LEFT_ALONE))
    return (directory / FILE).read_bytes()


def test_half_a_line_spoils_neither_the_next_one_nor_what_was_known_before(tmp_path: Path) -> None:
    """kill -9 may end a write anywhere (generic_perform_write, mm/filemap.c, heeds fatal signals)."""
    whole = a_record(tmp_path)
    for size in range(len(HEADING), len(whole)):
        (tmp_path / FILE).write_bytes(whole[:size])
        before = known(tmp_path)
        recorder(tmp_path).write(armed(1))
        assert known(tmp_path) == sorted({1, *before})


@pytest.mark.long
def test_no_flipped_bit_makes_a_record_say_something_else(tmp_path: Path) -> None:
    """A line that is damaged says nothing, and the others say what they said."""
    whole = a_record(tmp_path)
    true = {4711: Armed(OFF, ON, ALL), 5: Armed(OFF, ON, ALL), 6: Armed(ON, OFF)}
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            (tmp_path / FILE).write_bytes(damaged)
            keeper = recorder(tmp_path)
            assert keeper.armed().items() <= true.items()
            assert keeper.left_alone() <= {5}
            keeper.write(armed(1))
            assert keeper.armed().items() <= {**true, 1: true[5]}.items()


def test_what_a_damaged_heading_stands_above_is_not_lost(tmp_path: Path) -> None:
    """Each line tells of which boot it is."""
    whole = a_record(tmp_path)
    (tmp_path / FILE).write_bytes(b"X" + whole[1:])
    assert known(tmp_path) == [6, 4711]
    recorder(tmp_path).write(armed(1))
    assert known(tmp_path) == [1, 6, 4711]
    assert (tmp_path / FILE).read_text().startswith(HEADING)


def test_a_record_in_the_earlier_format_is_read_and_then_rewritten(tmp_path: Path) -> None:
    """After an upgrade: the sockets armed before are in it."""
    (tmp_path / FILE).write_text(EARLIER + "4711 0 7200 75 9 1 180 20 31\n5 1 7200 75 9 1 180 20 31\n5 -\n")
    keeper = recorder(tmp_path)
    before = {4711: Armed(OFF, ON, Own.UNTOLD)}
    assert (keeper.armed(), keeper.left_alone(), keeper.damaged()) == (before, {5}, ())
    keeper.write(armed(1))
    for each in (keeper, recorder(tmp_path)):
        assert (each.armed(), each.left_alone(), each.damaged()) == ({**before, **armed(1)}, {5}, ())
    assert (tmp_path / FILE).read_text().count(EARLIER.split(" b", maxsplit=1)[0]) == 0


def test_two_processes_that_find_the_earlier_format_lose_nothing_of_each_other(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(EARLIER + "4711 0 7200 75 9 1 180 20 31\n")
    one, other = recorder(tmp_path), recorder(tmp_path)
    assert sorted(one.armed()) == sorted(other.armed()) == [4711]
    one.write(armed(1))
    other.write(armed(2))
    assert sorted(one.armed()) == sorted(other.armed()) == known(tmp_path) == [1, 2, 4711]


def test_a_full_disk_is_a_refusal_even_where_half_of_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """write(2) then says how much, and no error."""
    keeper, really = recorder(tmp_path), os.write
    keeper.write(armed(1))
    monkeypatch.setattr(os, "write", lambda file, text: really(file, text[: len(text) // 2]))
    with pytest.raises(StateError, match="cannot be written: No space left on device"):
        keeper.write(armed(2, 3, 4))
    monkeypatch.undo()
    assert known(tmp_path) == sorted(keeper.armed()) == [1]
    keeper.write(armed(5))
    assert known(tmp_path) == [1, 5]


def test_who_looks_while_a_write_fails_forgets_the_lines_that_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other lines stand in their place by the next look, and the record is rewritten by what was known of them."""
    keeper, other, really = recorder(tmp_path), recorder(tmp_path), os.write

    def write(file: int, text: bytes) -> int:
        really(file, text)
        assert sorted(other.armed()) == [1, 2, 3]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keeper.write(armed(1))
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StateError, match="cannot be written: No space left on device"):
        keeper.write(armed(2, 3))
    monkeypatch.undo()
    keeper.write(armed(44, 55, 66))
    assert sorted(other.armed()) == [1, 44, 55, 66]
    other.write(armed(7))
    assert known(tmp_path) == [1, 7, 44, 55, 66]
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_of_many_lines_none_stays_where_the_disk_is_full_before_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written some at a time."""
    keeper, really, left = recorder(tmp_path), os.write, iter([True, True, False])
    keeper.write(armed(1))

    def write(file: int, text: bytes) -> int:
        if not next(left):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(file, text)

    monkeypatch.setattr(lines_of_record, "PART", 2)
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StateError, match="cannot be written: No space left on device"):
        keeper.write(armed(*range(2, 9)))
    monkeypatch.undo()
    assert known(tmp_path) == sorted(keeper.armed()) == [1]
    keeper.write(armed(5))
    assert known(tmp_path) == [1, 5]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00\n",
        b"\n",
        b"1 2 3\n",
        b"1 0 7200 75 9 1 180 20 31 0 00000000\n",
        b"18446744073709551616 0 7200 75 9 1 180 20 31\n",
        b"9" * 5000 + b"\n",
        b"one 0 7200 75 9 1 180 20 31\n",
    ],
)
def test_a_line_that_cannot_be_one_is_passed_over_and_kept_aside(tmp_path: Path, line: bytes) -> None:
    """One that says neither what stood there nor that it is over says nothing."""
    recorder(tmp_path).write(armed(1))
    with open(tmp_path / FILE, "ab") as file:
        file.write(line)
    content = (tmp_path / FILE).read_bytes()
    keeper = recorder(tmp_path)
    (told,) = keeper.damaged()
    assert told.startswith(f"{tmp_path / FILE}: damaged arming record (1 of its lines is damaged): ")
    keeper.write(armed(2))
    assert known(tmp_path) == sorted(keeper.armed()) == [1, 2]
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    (told,) = keeper.damaged()
    assert told.startswith(f"{tmp_path / FILE}.damaged: damaged arming record (kept aside): ")


# a file that is no record at all

NO_RECORDS = [
    b"\0" * 500,
    b"\xff" * 500,
    b"\n" * 20,
    b"no heading, no line",
    b"tcp-keepalived armer",
    b"one\ntwo\nthree\n",
    f"tcp-keepalived armed 3 {BOOT}\n".encode(),  # of this boot, but of a later version
    b"tcp-keepalived armed 2 \0\0\0\0\n",
]


@pytest.mark.parametrize("content", NO_RECORDS)
def test_a_file_that_is_no_record_is_damaged_and_the_next_record_does_not_destroy_it(
    tmp_path: Path, content: bytes
) -> None:
    """It may have named sockets that are armed still."""
    (tmp_path / FILE).write_bytes(content)
    keeper = recorder(tmp_path)
    assert (keeper.armed(), keeper.left_alone()) == ({}, set())
    (told,) = keeper.damaged()
    assert told.startswith(f"{tmp_path / FILE}: damaged arming record (it has no heading of this version): ")
    assert told.isprintable()
    assert (tmp_path / FILE).read_bytes() == content
    keeper.write(armed(1))
    assert known(tmp_path) == sorted(keeper.armed()) == [1]
    kept = tmp_path / f"{FILE}.damaged"
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (content, 0o600)


def test_damaged_records_are_kept_aside_under_names_of_their_own(tmp_path: Path) -> None:
    """And told of as long as they are there."""
    for content in NO_RECORDS[:2]:
        (tmp_path / FILE).write_bytes(content)
        recorder(tmp_path).set_aside()
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == NO_RECORDS[0]
    assert (tmp_path / f"{FILE}.damaged.2").read_bytes() == NO_RECORDS[1]
    assert len(recorder(tmp_path).set_aside()) == 2
    assert known(tmp_path) == []


def test_a_damaged_record_that_got_a_second_name_is_kept_aside_whole(tmp_path: Path) -> None:
    keeper = recorder(tmp_path)
    keeper.write(armed(1, 2))
    (tmp_path / "backup").hardlink_to(tmp_path / FILE)
    with (tmp_path / FILE).open("a") as file:
        file.write("777 damaged\n")
    damaged = (tmp_path / FILE).read_bytes()
    keeper.write(armed(3))
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == damaged
    assert known(tmp_path) == [1, 2, 3]


@contextlib.contextmanager
def no_larger_files(most: int) -> Iterator[None]:
    """While inside, no file grows beyond so many octets."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_a_damaged_record_cannot_be_kept_aside_it_stays_where_it_is(tmp_path: Path) -> None:
    """And nothing is armed that could not be recorded; half a copy is removed."""
    (tmp_path / FILE).write_bytes(NO_RECORDS[0])
    keeper = recorder(tmp_path)
    with no_larger_files(len(NO_RECORDS[0]) // 2):
        (told,) = keeper.set_aside()
        assert told.startswith(f"{tmp_path / FILE}: damaged arming record")
        with pytest.raises(StateError, match="cannot be written: File too large"):
            keeper.write(armed(1))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(FILE, NO_RECORDS[0])]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "tcp-keepal",
        HEADING[:-1],
        HEADING[:-3],
        EARLIER[:-1],
        HEADING,
        "tcp-keepalived armed 2 earlier\n",
        "tcp-keepalived armed 2 ear",
        "tcp-keepalived armed 3 later\n1 2 3\n",
    ],
)
def test_a_record_of_nothing_or_of_another_boot_is_not_damaged(tmp_path: Path, content: str) -> None:
    """kill -9 in the first write leaves the one, a crash of the host or a reboot the other."""
    (tmp_path / FILE).write_text(content)
    keeper = recorder(tmp_path)
    assert keeper.set_aside() == ()
    keeper.write(armed(1))
    assert (keeper.damaged(), known(tmp_path)) == ((), [1])
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


# not set after all


def test_what_was_not_set_after_all_is_neither_armed_nor_left(tmp_path: Path) -> None:
    """A failure is no choice of anybody's."""
    keeper = recorder(tmp_path)
    keeper.write(armed(1, 2))
    keeper.write(dict.fromkeys([3], Mark.LEFT_ALONE))
    keeper.write(dict.fromkeys([1, 3], Mark.NOT_ARMED))
    for each in (keeper, recorder(tmp_path)):
        assert (sorted(each.armed()), each.left_alone()) == ([2], set())


def test_a_tidied_file_is_for_its_owner_alone_too(tmp_path: Path) -> None:
    keeper = recorder(tmp_path)
    keeper.write(armed(*range(1, SPARE + 10)))
    keeper.tidy(named(1))
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
