"""What is odd about each system's programs."""

from __future__ import annotations

import builtins
import dataclasses
import json
import math
import os
import socket
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.connections import Verdict
from keepaliveD.model.errors import Exit, KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import Switch
from keepaliveD.platforms import detect
from keepaliveD.platforms.freebsd import listing as freebsd
from keepaliveD.platforms.listing import command
from keepaliveD.platforms.listing.by_psutil import KnownToPsutil
from keepaliveD.platforms.macos import listing as macos
from keepaliveD.platforms.solaris import listing as solaris
from tests.platforms import programs
from tests.platforms.emulators import hosts
from tests.platforms.emulators.wire import Connection
from tests.platforms.foreign import FREEBSD, ILLUMOS, MACOS, SOLARIS, SYSTEMS, System, Watched
from tests.support.tables import watch

NOW = 100_000.0


def verdicts(watched: Watched, connection: Connection) -> list[Verdict]:
    """At the first look, 15 s later when it has carried data, and after the path's timeout of 300 s."""
    spoke = dataclasses.replace(connection, received=connection.received + 500)
    looks = [watched.look(NOW, connection), watched.look(NOW + 15, spoke), watched.look(NOW + 400, spoke)]
    return [Verdict(watch(*looks[: number + 1]).forecast.verdict[0]) for number in range(3)]


def test_on_macos_a_socket_without_keepalive_is_bare_once_its_idle_time_is_known(tmp_path: Path) -> None:
    assert verdicts(Watched(MACOS, tmp_path), Connection()) == [Verdict.UNKNOWN, Verdict.BARE, Verdict.CUT]


def test_on_macos_the_outlook_of_one_with_keepalive_is_unknown(tmp_path: Path) -> None:
    """Its timer is not shown, nor are its probes."""
    assert verdicts(Watched(MACOS, tmp_path), Connection(keepalive=True)) == [Verdict.UNKNOWN] * 3


def test_on_macos_always_keepalive_counts_for_all(tmp_path: Path) -> None:
    watched = Watched(MACOS, tmp_path)
    watched.set("net.inet.tcp.always_keepalive", 1)
    assert watched.look(NOW, Connection()).sockets["keepalive"][0] == Switch.ON
    watched.set("net.inet.tcp.always_keepalive", 0)
    assert watched.look(NOW, Connection()).sockets["keepalive"][0] == Switch.OFF


@pytest.mark.parametrize("system", [SOLARIS, ILLUMOS], ids=lambda system: system.name)
def test_on_solaris_and_illumos_no_outlook_is_known(system: System, tmp_path: Path) -> None:
    """Nobody tells whether a socket has keepalive: it is not called bare, nor cut."""
    assert verdicts(Watched(system, tmp_path), Connection()) == [Verdict.UNKNOWN] * 3


def test_a_process_name_with_spaces_moves_no_column(tmp_path: Path) -> None:
    watched = Watched(MACOS, tmp_path)
    table = watched.look(NOW, Connection(process="Codex (Service) 00000008 7:56664"), Connection(local_port=1))
    assert table.sockets["keepalive"].tolist() == [Switch.OFF, Switch.OFF]


OLDER_MACOS = """\
Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)        rxbytes    txbytes rhiwat shiwat    pid   epid  state    options
tcp4       0      0  192.0.2.1.40000        198.51.100.1.22        ESTABLISHED       1000       2000 131072 131768    812      0 0x0102 0x0000000c
tcp46      0      0  *.22                   *.*                    LISTEN               0          0 131072 131072      1      0 0x0100 0x00000006
"""  # noqa: E501 - as wide as it is


def test_older_versions_of_macos_have_other_columns() -> None:
    """They tell no generation, and two process numbers."""
    (row,) = macos._rows(OLDER_MACOS, Switch.OFF)
    assert (row.received, row.sent, row.keepalive, row.identity) == (1000, 2000, Switch.ON, "")


def test_a_socket_of_another_generation_is_another_connection(tmp_path: Path) -> None:
    """A client may use its port again for the same server."""
    watched = Watched(MACOS, tmp_path)
    before = watched.look(NOW, Connection(generation=1)).sockets["cookie"][0]
    assert watched.look(NOW + 15, Connection(generation=2)).sockets["cookie"][0] != before


def test_illumos_before_connstat_is_asked_as_solaris(tmp_path: Path) -> None:
    """It came in 2019."""
    hosts.sunos(tmp_path, "illumos", "no-connstat", ipadm=True)
    assert isinstance(solaris.sunos(tmp_path), solaris.Netstat)
    hosts.sunos(tmp_path, "illumos", ipadm=True)
    assert isinstance(solaris.sunos(tmp_path), solaris.Connstat)


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (solaris._by_connstat, "1.2.3.4,5\n", "8 fields"),
        (solaris._by_connstat, "1.2.3.4,5,1.2.3.4,6,x,0,0,ESTABLISHED\n", "'x' is no count"),
        (solaris._by_connstat, "1.2.3.4,5,1.2.3.4,6,0,0,0,HERGESTELLT\n", "no state"),
        (solaris._by_netstat, "1.2.3.4.5\n", "no line"),
        (solaris._by_netstat, "1.2.3.4.5 1.2.3.4.6\n", "no local address"),
        (solaris._by_netstat, "1.2.3.4.5\n1.2.3.4.6 1 2 3 4 5 6 7 8 UNKNOWN(17)\n", "no state"),
        (lambda text: list(macos._rows(text, Switch.OFF)), "tcp4 0 0 *.* *.* LISTEN\n", "before the names"),
        (lambda text: list(macos._rows(text, Switch.OFF)), "Proto Recv-Q Local Address\n", "no column"),
        (
            lambda text: list(macos._rows(text, Switch.OFF)),
            OLDER_MACOS.replace("0x0000000c", ""),
            "17 columns|has not",
        ),
    ],
)
def test_a_row_of_another_form_is_named(parse: Callable[[str], list[Any]], text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


WORDS = "Proto tcp4 tcp6 (state) 192.0.2.1.22 ::1.22 *.* ESTABLISHED LISTEN 0 ff , - { } [ pid rxbytes txbytes options"
PIECES = [*WORDS.split(), "Local Address", "Foreign Address", "\n"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map(" ".join)))
def test_whatever_a_program_prints_is_understood_or_refused(text: str) -> None:
    parsers: list[Callable[[str], list[Any]]] = [
        freebsd._states,
        freebsd._timers,
        solaris._by_connstat,
        solaris._by_netstat,
        lambda text: list(macos._rows(text, Switch.OFF)),
    ]
    for parse in parsers:
        try:
            parse(text)
        except ValueError:
            continue


@contextmanager
def connection() -> Iterator[tuple[int, int]]:
    """A real connection over the loopback: the ports of its two ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            yield client.getsockname()[1], port


@pytest.mark.parametrize("system", ["openbsd", "netbsd", "aix"])
def test_what_psutil_lists_is_a_table_too(system: str) -> None:
    """Of this very machine; both ends of one connection are two rows."""
    with connection() as (one, other):
        watcher = detect(system).open(Watching(with_interfaces=True)).watcher
        table = watcher.scan(NOW)
        ours = [
            int(row)
            for row, ends in enumerate(zip(table.sockets["local_port"], table.sockets["remote_port"], strict=True))
            if {int(end) for end in ends} == {one, other}
        ]
        assert len(ours) == 2
        assert [table.interfaces[table.sockets["interface"][row]] for row in ours] == ["lo", "lo"]
        assert {watch(table).forecast.verdict[row] for row in ours} == {Verdict.UNKNOWN}


@pytest.mark.parametrize(
    ("raised", "error"),
    [(psutil.AccessDenied(), NotPermitted), (OSError(5, "broken"), KernelError), (NotImplementedError(), KernelError)],
)
def test_what_psutil_cannot_do_is_named(
    raised: Exception, error: type[Refusal], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_kind: str) -> None:
        raise raised

    monkeypatch.setattr(psutil, "net_connections", refuse)
    with pytest.raises(error, match="cannot be listed"):
        KnownToPsutil().read(NOW)


def test_where_psutil_is_missing_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system that it does not know it raises NotImplementedError when it is imported."""
    real = builtins.__import__

    def missing(name: str, *arguments: Any) -> Any:
        if name == "psutil":
            raise NotImplementedError("platform dragonfly6 is not supported")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Unsupported, match="install py-psutil"):
        KnownToPsutil().read(NOW)


Row = namedtuple("Row", "laddr raddr status")


def test_a_socket_that_several_processes_hold_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Row(("192.0.2.1", 1), ("192.0.2.2", 2), "ESTABLISHED")
    listening = Row(("::", 22), (), "LISTEN")
    monkeypatch.setattr(psutil, "net_connections", lambda _kind: [held, listening, held])
    assert len(KnownToPsutil().read(NOW)) == 1


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_ten_thousand_connections_are_listed_in_seconds(system: System, tmp_path: Path) -> None:
    """A scan may not take longer than the shortest sensible interval; nearly all of this is the emulators'."""
    watched = Watched(system, tmp_path)
    many = [
        Connection(f"10.1.{number >> 8}.{number & 255}", 40000, block=number, generation=number)
        for number in range(10_000)
    ]
    before = worked()
    assert len(watched.look(NOW, *many)) == 10_000
    assert worked() - before < 5


def worked() -> float:
    """For how many seconds this process and those of its children that have ended had a processor."""
    return sum(os.times()[:4])


def test_a_complaint_beside_a_list_is_no_failure(tmp_path: Path) -> None:
    """netstat of FreeBSD warns that it cannot open the kernel's memory where it need not."""
    program = tmp_path / "netstat"
    program.write_text("#!/bin/sh\necho 'netstat: kvm not available' >&2\necho 1\n")
    program.chmod(0o755)
    assert command.listed(str.split, program) == ["1"]


def test_a_list_that_ended_in_a_failure_is_none(tmp_path: Path) -> None:
    """It may lack the rest."""
    program = tmp_path / "netstat"
    program.write_text("#!/bin/sh\necho 1\necho 'netstat: out of memory' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(KernelError, match="out of memory"):
        command.listed(str.split, program)


def test_a_silence_at_the_first_scan_is_reported_only_where_it_is_known(tmp_path: Path) -> None:
    for system in (FREEBSD, MACOS):
        (tmp_path / system.name).mkdir()
        table = Watched(system, tmp_path / system.name).look(NOW, Connection(heard_at=NOW - 100))
        assert math.isnan(table.sockets["since_received"][0]) is not system.tells_idle


def test_solaris_and_illumos_tell_what_came_from_what_went(tmp_path: Path) -> None:
    """Only what came proves that the peer lives."""
    for system in (SOLARIS, ILLUMOS, MACOS):
        (tmp_path / system.name).mkdir()
        watched = Watched(system, tmp_path / system.name)
        one = Connection(received=100_000, sent=7_000_000)
        before = watched.look(NOW, one).sockets
        after = watched.look(NOW + 15, dataclasses.replace(one, received=200_000)).sockets
        assert after["segments_in"][0] > before["segments_in"][0]
        assert after["segments_out"][0] == before["segments_out"][0]


@pytest.fixture
def configuration(tmp_path: Path) -> str:
    (tmp_path / "empty.toml").touch()
    return str(tmp_path / "empty.toml")


def test_keepalivectl_shows_what_another_system_lists(tmp_path: Path, configuration: str) -> None:
    """The whole program, over the emulated commands."""
    watched = Watched(FREEBSD, tmp_path)
    watched.look(NOW, Connection(heard_at=NOW - 100, keepalive_at=NOW + 80))
    arguments = ("sockets", "--json", "--platform", "freebsd", "--config", configuration)
    run = programs.run("keepalivectl", tmp_path, *arguments)
    (shown,) = json.loads(run.stdout)["connections"]
    assert (shown["verdict"], shown["keepalive"], shown["remote"]["address"]) == ("safe", "on", "198.51.100.1")
    assert shown["idle"] == pytest.approx(100, abs=1)


def test_a_system_that_lists_nothing_sensible_ends_it_in_one_line(tmp_path: Path, configuration: str) -> None:
    """With the status of sysexits.h, and no traceback."""
    Watched(MACOS, tmp_path).fail("garbage")
    run = programs.run("keepalivectl", tmp_path, "sockets", "--platform", "macos", "--config", configuration)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (Exit.OSERR, "", 1)
    assert "unexpected output" in run.stderr


@pytest.mark.parametrize("name", ["hpux", "dragonfly"])
def test_where_nothing_can_be_watched_a_note_says_so_and_settings_are_kept(name: str, tmp_path: Path) -> None:
    platform = detect(name, tmp_path)
    assert any("cannot be watched" in note for note in platform.notes)
    table = platform.open(Watching()).watcher.scan(NOW)
    assert (len(table), table.complete) == (0, False)


@pytest.mark.parametrize("name", ["freebsd", "macos", "solaris10", "solaris11", "illumos", "openbsd", "netbsd", "aix"])
def test_the_platform_tells_what_its_watcher_cannot(name: str, tmp_path: Path) -> None:
    listings = (freebsd.FreeBSD, macos.MacOS, solaris.Netstat, solaris.Connstat, KnownToPsutil)
    told = [each.limits for each in listings if set(each.limits) <= set(detect(name, tmp_path).notes)]
    assert told
