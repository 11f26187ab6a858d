"""keepalivectl measure: its command line, the words of what it finds, and the [[path]] that it writes."""

from __future__ import annotations

import datetime
import errno
import json
import os
import re
import signal
import stat
import subprocess
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, create_server, socket
from subprocess import PIPE

import pytest

from keepaliveD.cli import dropin, files, starting
from keepaliveD.cli.asking import its_files, running
from keepaliveD.cli.ctl import main
from keepaliveD.cli.measure.measured import Found, as_json, as_toml, default_name, in_words
from keepaliveD.config import load
from keepaliveD.measuring.opening import resolve
from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.errors import ConfigError, Misuse, NotPermitted, Refusal, StateError
from keepaliveD.model.origin import Source
from keepaliveD.policy.measuring.measurement import Bracket, How, Side
from keepaliveD.policy.measuring.tomography import Device, Elsewhere
from tests.kernel.measure.stage import LONG
from tests.programs.stage import awaited
from tests.support.patience import SOON
from tests.support.processes import CTL
from tests.support.unprivileged import as_nobody, reachable_directory
from tests.support.unwritable import LEAVES, UNWRITABLE, printing_in_vain

FOUND = Found(
    name="db.example.net:5432",
    address="10.20.0.9",
    bracket=Bracket(300.4, 311.2, How.SILENCE, survivors=78, tests=155),
    keepalive_helps=True,
    reset_by_peer=None,
    outages=0,
    speaks=0,
    left_open=0,
    connections=160,
    gone="",
    by_listener=True,
    date=datetime.date(2026, 11, 28),
)


async def measured(*_: object, **__: object) -> tuple[Found, bool]:
    return FOUND, False


def said(found: Found) -> str:
    return "\n".join(in_words(found))


def test_the_result_is_the_silence_survived_and_the_one_that_was_fatal() -> None:
    assert said(FOUND) == (
        "path to db.example.net:5432: forgets after 5min to 5min 12s without a packet\n"
        "  survived     5min, by 78 connections\n"
        "  forgotten    after 5min 12s: probes get no answer (drop)\n"
        "  keepalive    helps: a connection with keepalive outlived the timeout\n"
        "  made         160 connections, of which 155 were left quiet"
    )


def test_a_path_that_counts_only_data_is_named() -> None:
    """Nor does it claim that data helps: a device may end each connection at some age."""
    told = said(replace(FOUND, keepalive_helps=False))
    assert "does NOT help: the path forgot connections with keepalive, too; data was not tried" in told


def test_a_path_that_counts_only_data_is_written_as_such(tmp_path: Path) -> None:
    """Else a connection with keepalive would be called safe there, and others be armed in vain."""
    file = tmp_path / "config.toml"
    file.write_text(as_toml(replace(FOUND, keepalive_helps=False)))
    assert [path.counts for path in load(file).paths[1:]] == [WhatCounts.DATA]
    for helps in (True, None):
        assert "counts" not in as_toml(replace(FOUND, keepalive_helps=helps))


def test_the_path_to_a_link_local_address_names_the_interface(tmp_path: Path) -> None:
    """fe80::1 is another peer on each interface."""
    file = tmp_path / "config.toml"
    file.write_text(as_toml(replace(FOUND, address="fe80::1", interface="eth0")))
    (path,) = load(file).paths[1:]
    assert (path.interface, [str(each) for each in path.networks]) == ("eth0", ["fe80::1/128"])


def test_the_interface_of_a_link_local_address_is_that_of_the_measurement() -> None:
    (target,) = resolve("neighbour", "fe80::1%lo", 22)
    assert target.interface == "lo"
    (target,) = resolve("peer", "::1", 22)
    assert target.interface == ""


def test_a_path_without_a_hop_says_who_forgets() -> None:
    without = replace(FOUND, counted=True, hop_count=0)
    assert "  hops         none seen: this host's own firewall forgets, or the peer's, or a bridge or" in said(without)
    assert json.loads(as_json(without))["hop_count"] == 0
    assert "hops" not in said(FOUND)


def test_no_hop_is_not_said_to_be_none_where_the_peers_packets_pass_one() -> None:
    without = replace(FOUND, counted=True, hop_count=0, routers_back=1)
    assert "  hops         not counted: a router passes on packets whose TTL is over" in said(without)


def test_ways_of_different_lengths_are_named_beside_the_map() -> None:
    """The map said that the device which forgets after 12 s outlasts 32 s."""
    devices = (Device((1,), 11.9, 12.4), Device((2,), 18.0, 20.0, hidden=True), Device((3,), 22.0, 26.0))
    devices = (*devices[:2], replace(devices[2], elsewhere=(Elsewhere.PEER, Elsewhere.WAY_BACK)))
    mapped = replace(FOUND, counted=True, hop_count=3, routers_back=2, hops=("", "", ""), devices=devices)
    told = said(replace(mapped, stopped_by=(3, 4)))
    assert "  way back     2 routers, not 3: hops are tested from this end alone" in told
    assert "hop 1 (unknown address) forgets after 11s -- " in told
    assert "  perhaps      the peer's own firewall or a device on the way back in place of hop 3" in told
    assert "hop 3 (unknown address) or the peer's own firewall or a device on the way back: packets" in told
    assert "  way back  " not in said(replace(mapped, routers_back=3))


def test_a_map_without_the_device_that_forgets_is_not_shown_as_right() -> None:
    devices = (Device((1,), 350.0), Device((2,), 330.0, 340.0))
    mapped = replace(FOUND, counted=True, hop_count=2, routers_back=2, hops=("", ""), devices=devices)
    assert "  map          wrong: no hop forgets as soon as the path" in said(mapped)
    for fits in (Device((2,), 300.0, 315.0), Device((2,), 320.0, hidden=True), Device((2,))):
        assert "  map " not in said(replace(mapped, devices=(devices[0], fits)))


def test_whatever_may_forget_in_place_of_a_hop_is_named_beside_the_map() -> None:
    """This host's own firewall forgot, and the map named a router that has none."""
    devices = (
        Device((1,), 300.4, 311.2, How.SILENCE, elsewhere=(Elsewhere.HERE,)),
        Device((2, 3), 350.0, 370.0, elsewhere=(Elsewhere.PEER, Elsewhere.WAY_BACK)),
    )
    mapped = replace(FOUND, hops=("10.1.0.1", "10.2.0.1", "10.3.0.1"), devices=devices)
    assert (
        "  perhaps      this host in place of hop 1; "
        "the peer's own firewall or a device on the way back in place of hop 2 or 3\n"
    ) in said(mapped)
    assert [hop["or"] for hop in json.loads(as_json(mapped))["hops"]] == [
        ["this host"],
        ["the peer's own firewall", "a device on the way back"],
    ]


def test_hops_that_could_not_be_counted_are_named() -> None:
    assert "  hops         not counted: the peer did not answer, or is too far away" in said(
        replace(FOUND, counted=True)
    )


def test_a_server_that_closes_first_is_named_with_what_to_do() -> None:
    closing = replace(FOUND, bracket=Bracket(110.0, closes=120.0, survivors=8), by_listener=False)
    assert "server       closes after 2min; to find longer timeouts, run keepalivectl measure --listen" in said(closing)
    assert as_toml(closing) == ""


def test_what_one_end_alone_cannot_see_is_said_with_what_to_do() -> None:
    """A firewall that this host's packets revive, as Linux's does by default, forgot after 6 s."""
    endless = replace(FOUND, bracket=Bracket(12.0, survivors=24), keepalive_helps=None, by_listener=False)
    assert said(endless).splitlines()[:3] == [
        "path to db.example.net:5432: does not forget within 12s",
        "  survived     12s, by 24 connections",
        "  not seen     a firewall that forgets, and that packets of this host revive; "
        "to see it, run keepalivectl measure --listen at the far end",
    ]
    assert "not seen" not in said(replace(endless, by_listener=True))
    assert "not seen" not in said(replace(FOUND, by_listener=False))
    assert "not seen" not in said(replace(endless, bracket=Bracket()))


def test_a_path_that_lost_its_state_is_named_with_the_time() -> None:
    lost = replace(FOUND, losses=(("16:03:33", 25),))
    words = "lost state   by 16:03:33 the path forgot 25 connections at once, whatever their silence: not counted"
    assert words in said(lost)
    assert json.loads(as_json(lost))["losses_of_state"] == [{"by": "16:03:33", "connections": 25}]
    assert json.loads(as_json(FOUND))["losses_of_state"] == []


def test_deaths_of_one_round_alone_are_no_timeout_to_configure() -> None:
    """The path may have lost its state then: it wrote timeout = "9s" where the firewall forgets after 25 s."""
    once = replace(FOUND, bracket=replace(FOUND.bracket, once=True))
    assert "forgets by 5min 12s without a packet, or lost its state once" in said(once)
    assert "undecided    connections were forgotten in one round only, so no timeout is named; measure again" in said(
        once
    )
    assert as_toml(once) == ""
    assert (json.loads(as_json(once))["undecided"], json.loads(as_json(FOUND))["undecided"]) == (True, False)


def test_one_side_that_revives_is_named() -> None:
    revived = replace(FOUND, bracket=replace(FOUND.bracket, revived_by=Side.HERE))
    assert "revived      by a packet of this host; until then packets of the peer are lost" in said(revived)


def test_a_proxy_that_answers_for_the_peer_is_no_path_with_a_timeout() -> None:
    """It said "forgets within 3.7s", "revived by a packet of this host" and that keepalive helps."""
    bracket = Bracket(None, 3.61, How.SILENCE, revived_by=Side.HERE, tests=155)
    proxied = replace(FOUND, bracket=bracket, keepalive_helps=None)
    assert said(proxied).splitlines()[:-1] == [
        "path to db.example.net:5432: nothing is known",
        "  not heard    no probe of the peer, not even after 3.7s, while those of this host were answered: "
        "a proxy between answers both ends, or a firewall that packets of this host revive forgets sooner",
    ]
    told = json.loads(as_json(proxied))
    assert [told[key] for key in ("forgotten", "how", "revived_by", "unheard")] == [None, None, None, 3.61]
    assert json.loads(as_json(FOUND))["unheard"] is None


def test_the_map_reads_from_this_host_to_the_peer() -> None:
    devices = (
        Device((1,), 3600.0),
        Device((2, 3), 300.4, 311.2, How.SILENCE),
        Device((4,), 300.4, None, None, hidden=True),
    )
    mapped = replace(FOUND, hops=("10.1.0.1", "10.20.0.1", "", "10.3.0.1"), devices=devices)
    assert said(mapped).splitlines()[-1] == (
        "this host -- hop 1 (10.1.0.1) > 1h -- hop 2 (10.20.0.1) or 3 (unknown address) forgets after 5min (drop) -- "
        "hop 4 (10.3.0.1) > 5min or hidden -- 10.20.0.9"
    )
    assert [hop["hops"] for hop in json.loads(as_json(mapped))["hops"]] == [[1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("hops", "names"),
    [
        ((2,), "hop 2 (10.20.0.1)"),
        ((2, 3), "hop 2 (10.20.0.1) or hop 3 (unknown address)"),
        ((0, 1), "this host's own firewall or hop 1 (10.1.0.1)"),
        ((3, 4), "hop 3 (unknown address) or the peer's own firewall or a device on the way back"),
    ],
)
def test_the_hop_that_drops_is_named_as_far_as_it_is_known(hops: tuple[int, ...], names: str) -> None:
    mapped = replace(FOUND, hops=("10.1.0.1", "10.20.0.1", ""), stopped_by=hops)
    assert f"stopped by   {names}: packets of a forgotten connection get no farther" in said(mapped)
    assert json.loads(as_json(mapped))["stopped_by"] == list(hops)


def test_json_says_unknown_as_null() -> None:
    told = json.loads(as_json(replace(FOUND, bracket=Bracket(), keepalive_helps=None)))
    assert (told["survived"], told["forgotten"], told["keepalive_helps"], told["path"]) == (None, None, None, None)


def test_longer_silences_that_others_survived_do_happen() -> None:
    """Said beside "survived 20s, by 17 connections"."""
    told = said(replace(FOUND, speaks=3, bracket=Bracket(20.0, survivors=17, breaks=10.0)))
    assert "server       sent packets by itself, again and again, on 3 connections\n" in told


def test_json_says_on_how_many_connections_the_service_sent_packets_by_itself() -> None:
    told = replace(FOUND, speaks=3, bracket=Bracket(9.0, breaks=10.0))
    assert "server       sent packets by itself, again and again, on 3 connections: longer silences do" in said(told)
    assert json.loads(as_json(told))["server_sent"] == 3


def test_the_path_to_paste_is_shorter_than_what_was_survived() -> None:
    (path,) = tomllib.loads(as_toml(FOUND, 'a "name"'))["path"]
    assert path == {
        "name": 'a "name"',
        "networks": ["10.20.0.9/32"],
        "timeout": "300s",
        "measured": datetime.date(2026, 11, 28),
    }


def test_what_was_measured_for_hours_is_printed_also_where_it_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is removed while it measures."""
    there = tmp_path / "there"
    there.mkdir()

    async def measure(*_: object, **__: object) -> tuple[Found, bool]:
        there.rmdir()
        return FOUND, False

    monkeypatch.setattr("keepaliveD.cli.measure.until_known._measure", measure)
    assert main(["measure", "127.0.0.1:1", "--write", "--config", str(there / "config.toml")]) == 74
    told = capsys.readouterr()
    assert said(FOUND) in told.out
    assert "there/config.d: cannot be made" in told.err


@pytest.mark.parametrize("missing", [True, False], ids=["directory", "space"])
def test_before_hours_pass_it_says_that_the_path_cannot_be_written(
    missing: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said so when the measurement was over."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not missing:
        monkeypatch.setattr("keepaliveD.cli.files.os.fsync", full)
    monkeypatch.setattr("keepaliveD.cli.measure.until_known._measure", None)
    file = tmp_path / "missing/config.toml" if missing else tmp_path / "config.toml"
    assert main(["measure", "127.0.0.1:1", "--write", "--config", str(file)]) == 74
    assert capsys.readouterr().err.startswith(f"keepalivectl: {file.parent}/config.d")
    assert not list(tmp_path.iterdir())


def test_who_may_not_write_the_path_is_told_before_hours_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with reachable_directory() as place:
        place.chmod(0o555)
        with as_nobody():
            assert main(["measure", "127.0.0.1:1", "--write", f"--config={place}/config.toml"]) == 77
    said = capsys.readouterr()
    assert said.err == f"keepalivectl: {place}/config.d: cannot be made: Permission denied; run as root\n"
    assert said.out == ""


def test_a_place_that_was_tried_is_left_as_it_was(tmp_path: Path) -> None:
    main_file = tmp_path / "config.toml"
    main_file.touch()
    dropin.check_place(main_file, "measured to db")
    assert list(tmp_path.iterdir()) == [main_file]
    dropin.write(main_file, "measured to db", as_toml(FOUND))
    dropin.check_place(main_file, "measured to db")
    assert (tmp_path / "config.d/measured_to_db.toml").read_text(encoding="utf-8") == as_toml(FOUND)
    assert len(list((tmp_path / "config.d").iterdir())) == 1


def test_a_measurement_in_a_clone_is_written_where_the_daemon_of_the_clone_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is installed there, so the line about what puts it in force names the clone's daemon."""
    clone = tmp_path / "clone"
    for name in ("script/run", "etc/tcp-keepalived/config.toml"):
        (clone / name).parent.mkdir(parents=True)
        (clone / name).touch()
    monkeypatch.setattr(starting, "CLONE", clone / "script/run")
    monkeypatch.setattr(starting, "UNITS", ())
    monkeypatch.setattr(starting, "DEFAULT_FILE", Path("/nothing-installed/config.toml"))
    monkeypatch.setattr(dropin, "DEFAULT_FILE", tmp_path / "usual/config.toml")
    monkeypatch.setattr("keepaliveD.cli.measure.until_known._measure", measured)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert main(["measure", "127.0.0.1:1", "--write"]) == 0
    written = clone / "etc/tcp-keepalived/config.d/measured_to_db.example.net.toml"
    assert f"wrote {written}; {clone}/script/run puts it in force" in capsys.readouterr().err
    assert tomllib.loads(written.read_text(encoding="utf-8"))["path"][0]["timeout"] == "300s"


def test_a_measurement_is_written_where_a_running_daemon_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "its").mkdir()
    (tmp_path / "its/config.toml").touch()
    monkeypatch.setattr(dropin, "DEFAULT_FILE", tmp_path / "usual/config.toml")
    monkeypatch.setattr("keepaliveD.cli.measure.until_known._measure", measured)
    monkeypatch.setattr(running, "running", lambda *_: 4242)
    monkeypatch.setattr(its_files, "followed", lambda *_: tmp_path / "its/config.toml")
    assert main(["measure", "127.0.0.1:1", "--write"]) == 0
    assert (tmp_path / "its/config.d/measured_to_db.example.net.toml").exists()


@UNWRITABLE
def test_a_measurement_is_written_whatever_becomes_of_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unwritable: str
) -> None:
    """It took hours."""
    monkeypatch.setattr("keepaliveD.cli.measure.until_known._measure", measured)
    (tmp_path / "config.toml").touch()
    with printing_in_vain(monkeypatch, unwritable):
        status = main(["measure", "127.0.0.1:1", "--write", "--config", str(tmp_path / "config.toml")])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keepalivectl: ")]
    assert (status, said) == LEAVES[unwritable]
    assert (tmp_path / "config.d/measured_to_db.example.net.toml").exists()


def test_the_path_that_is_written_is_a_measured_one(tmp_path: Path) -> None:
    main_file = tmp_path / "config.toml"
    main_file.touch()
    file = dropin.write(main_file, "measured to db", as_toml(FOUND))
    assert file == tmp_path / "config.d/measured_to_db.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    path = load(main_file).paths[-1]
    assert (path.name, path.timeout) == ("to db.example.net", 300.0)
    assert path.origin.source is Source.MEASURED
    assert "2026-11-28" in str(path.origin)


def test_what_check_would_warn_of_is_said_when_the_path_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main_file = tmp_path / "config.toml"
    main_file.touch()
    dropin.write(main_file, "to db", as_toml(replace(FOUND, bracket=replace(FOUND.bracket, survived=20.0))))
    said = capsys.readouterr().err
    assert main(["check", str(main_file)]) == 0
    assert said == capsys.readouterr().err
    assert "forgets after 20s, but sockets are scanned only every 15s" in said


def test_a_second_measurement_replaces_the_first(tmp_path: Path) -> None:
    main_file = tmp_path / "config.toml"
    dropin.write(main_file, "measured to db", as_toml(FOUND))
    dropin.write(main_file, "measured to db", as_toml(replace(FOUND, bracket=replace(FOUND.bracket, survived=200.0))))
    assert [file.name for file in (tmp_path / "config.d").iterdir()] == ["measured_to_db.toml"]


def test_measurements_of_two_peers_are_two_files(tmp_path: Path) -> None:
    main_file = tmp_path / "config.toml"
    stems = ("to [fd00:1::2]:22", "to [fd00::1:2]:22", "a b", "a-b", "a:b")
    for stem in stems:
        dropin.write(main_file, stem, as_toml(FOUND, stem))
    assert len(list((tmp_path / "config.d").iterdir())) == len(stems)


def test_what_is_wrong_with_the_configuration_is_said_of_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d/a.toml").mkdir()
    with pytest.raises(Refusal, match=re.escape(f"{tmp_path}/config.d/a.toml")):
        dropin.check(tmp_path / "config.toml")


@pytest.mark.parametrize("special", ["/dev/null", "/"])
def test_a_device_or_a_directory_is_not_replaced_by_a_file(special: str) -> None:
    with pytest.raises(Misuse, match="is no plain file"):
        files.write(Path(special), "text")


def test_what_is_in_the_way_of_a_new_file_is_named(tmp_path: Path) -> None:
    new = tmp_path / "a.toml.new"
    new.mkdir()
    with pytest.raises(Misuse, match=re.escape(f"{new}: is a directory, and in the way of a new a.toml; remove it")):
        files.write(tmp_path / "a.toml", "text")


def test_of_a_link_the_file_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    files.write(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "text"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("planted", ["link", "directory"])
def test_a_link_that_another_user_has_planted_is_not_followed(planted: str, tmp_path: Path) -> None:
    """Whoever owns the directory of the textfile collector would have root replace any file."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("precious")
    place = tmp_path / planted
    place.symlink_to(tmp_path / ("precious/file" if planted == "link" else "precious"))
    os.chown(place, 4711, 4711, follow_symlinks=False)
    with pytest.raises(NotPermitted, match="is a link of another user"):
        files.write(place if planted == "link" else place / "file", "text")
    assert (tmp_path / "precious/file").read_text() == "precious"


def test_nothing_is_written_into_a_configuration_that_is_wrong(tmp_path: Path) -> None:
    main_file = tmp_path / "config.toml"
    main_file.write_text("[watch]\nintervall = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config.toml:2: .*intervall"):
        dropin.write(main_file, "measured to db", as_toml(FOUND))
    assert not list(tmp_path.glob("config.d/*"))


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["measure"], 64, "name TARGET (the HOST:PORT to measure to), or --listen, not both"),
        (["measure", "10.0.0.1:22", "--listen"], 64, "not both"),
        (["measure", "--listen", "--write"], 64, "--write belongs to the end that measures"),
        (["measure", "--listen", "--dry-run"], 64, "--dry-run belongs to the end that measures"),
        (["measure", "10.0.0.1"], 64, "10.0.0.1: not HOST:PORT, such as 10.20.0.9:22 or [fd00::9]:22"),
        (["measure", "10.0.0.1:0"], 64, "0 is not a port"),
        (["measure", "::1:22"], 64, "is 22 the port? write [::1]:22 if so"),
        (
            ["measure", "[fe80::1]:22"],
            64,
            "a link-local address is one on each interface; write [fe80::1%INTERFACE]:22",
        ),
        (["measure", "[::1:22"], 64, "is 22 the port? write [::1]:22 if so"),
        (["measure", "10.0.0.1:٢٢"], 64, "10.0.0.1:٢٢: not HOST:PORT"),
        (["measure", "10.0.0.1:22", "--token", ""], 64, "--token '': not a token that keepalivectl measure --listen"),
        (["measure", "10.0.0.1:22", "--longest", "6s"], 64, "--longest 6s is too short"),
        (["measure", "no-such-host.invalid:22", "--dry-run"], 66, "no-such-host.invalid: cannot be resolved"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], status: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_a_port_where_nobody_listens_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket(AF_INET) as bound:
        bound.bind(("127.0.0.1", 0))
        assert main(["measure", f"127.0.0.1:{bound.getsockname()[1]}"]) == 68
    assert capsys.readouterr().err.endswith("Connection refused\n")


def test_of_a_name_with_several_addresses_the_next_one_is_tried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket(AF_INET) as bound:
        bound.bind(("0.0.0.0", 0))
        port = bound.getsockname()[1]
        found = [(AF_INET, SOCK_STREAM, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.3")]
        monkeypatch.setattr("keepaliveD.measuring.opening.socket.getaddrinfo", lambda *_, **__: found)
        assert main(["measure", f"db.example.net:{port}"]) == 68
    told = capsys.readouterr().err.splitlines()
    assert f"127.0.0.2: db.example.net:{port}: Connection refused; trying the next address" in told
    assert [line for line in told if line.startswith("measuring")][-1].startswith(
        f"measuring the path to db.example.net:{port} (127.0.0.3)"
    )


def test_a_second_ctrl_c_frees_nothing_more_and_loses_nothing() -> None:
    """The service answers no SYN any more, for which each connection to free would wait 8 s."""
    with create_server(("127.0.0.1", 0), backlog=1) as service, ExitStack() as stack:
        target = f"127.0.0.1:{service.getsockname()[1]}"
        command = [*CTL, "measure", target, "--shortest", "60s", "--longest", "1h", "--connections", "2"]
        process = stack.enter_context(subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True))
        service.settimeout(SOON)
        for _ in range(3):
            stack.enter_context(service.accept()[0])
        _fill(service, stack)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        awaited(process.stderr, "that the service may still hold; Ctrl-C leaves them")
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=SOON)
    assert told.startswith(f"path to {target}: ")
    assert re.search(r"left open    \d+ connections? at most, which the peer holds unless it ended them itself", told)
    assert process.returncode == 130


def _fill(service: socket, stack: ExitStack) -> None:
    """Let no more connections in."""
    for _ in range(4):
        waiting = stack.enter_context(socket(AF_INET))
        waiting.setblocking(False)
        waiting.connect_ex(service.getsockname())


def test_with_few_descriptors_it_measures_by_fewer_connections() -> None:
    with create_server(("127.0.0.1", 0)) as service:
        target = f"127.0.0.1:{service.getsockname()[1]}"
        limited = ["sh", "-c", 'ulimit -n 12; exec "$@"', "sh", *CTL]
        command = [*limited, "measure", target, "--shortest", "1s", "--longest", "3s"]
        with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
            assert process.stderr
            awaited(process.stderr, "round 2", LONG)
            process.send_signal(signal.SIGINT)
            told, complaints = process.communicate(timeout=LONG)
    assert process.returncode in (0, 130), complaints  # 0 where the signal came after the last round
    assert told.startswith(f"path to {target}: ")


def test_a_service_that_speaks_on_each_connection_is_left_alone_after_one_round() -> None:
    with create_server(("127.0.0.1", 0)) as service, speaking(service) as target:
        command = [*CTL, "measure", target, "--shortest", "30s", "--longest", "60s", "--connections", "2", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=False)
    found = json.loads(done.stdout)
    assert (found["survived"], found["void"], found["connections"]) == (None, 2, 3)


@contextmanager
def speaking(service: socket) -> Iterator[str]:
    """A service that says something again and again on all connections; its address."""
    ended = threading.Event()

    def serve() -> None:
        service.setblocking(False)
        with ExitStack() as stack:
            open_ones: list[socket] = []
            while not ended.wait(0.2):
                with suppress(BlockingIOError):
                    open_ones.append(stack.enter_context(service.accept()[0]))
                for each in open_ones:
                    with suppress(OSError):
                        each.send(b"?")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{service.getsockname()[1]}"
    finally:
        ended.set()
        thread.join()


def test_a_full_disk_is_named_and_keeps_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("keepaliveD.cli.files.os.fsync", full)
    with pytest.raises(StateError, match=r"a\.toml: cannot be written: No space left on device"):
        files.write(tmp_path / "a.toml", "text")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "ended"), [([], "stopped by a signal"), (["--where"], "stopped by a signal; no hop was tried")]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_prints_what_is_known_so_far(words: list[str], ended: str, number: signal.Signals) -> None:
    """So does a terminal that goes away: it lost the result, and the service kept the connections for ever."""
    with stopped_by(number, *words) as (target, process):
        told, complaints = process.communicate(timeout=SOON)
    assert told.startswith(f"path to {target}: "), complaints
    assert f"\n  ended early  {ended}\n" in told
    assert process.returncode == 130


def test_after_nohup_it_goes_on_when_the_terminal_goes_away() -> None:
    with stopped_by(signal.SIGHUP, "--longest", "3s", through=("nohup",)) as (_, process):
        assert process.stderr
        awaited(process.stderr, "round 2", LONG)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SOON)


def test_a_measurement_that_was_stopped_is_not_complete_because_nobody_reads_its_result() -> None:
    """The terminal had gone, or Ctrl-C had ended the reader, too: the exit status was 0."""
    with stopped_by(signal.SIGHUP) as (_, process):
        assert process.stdout
        process.stdout.close()
        assert process.wait(SOON) == 130


@contextmanager
def stopped_by(
    number: signal.Signals, *words: str, through: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A measurement that gets a signal in its first round; and what it measures to."""
    with create_server(("127.0.0.1", 0)) as service:
        target = f"127.0.0.1:{service.getsockname()[1]}"
        heeding = ("env", "--default-signal=HUP")  # also where the tests themselves run under nohup
        command = [*heeding, *through, *CTL, "measure", target, "--shortest", "1s", *words]
        with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
            try:
                assert process.stderr
                assert "round 2" not in awaited(process.stderr, "round 1")
                process.send_signal(number)
                yield target, process
            finally:
                process.kill()


@UNWRITABLE
def test_a_measurement_goes_on_although_nobody_reads_how_far_it_is(
    unwritable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended after the first line with no result, and the status 0 where the reader had gone."""
    with create_server(("127.0.0.1", 0)) as service, printing_in_vain(monkeypatch, unwritable, "stderr"):
        target = f"127.0.0.1:{service.getsockname()[1]}"
        assert main(["measure", target, "--shortest", "1s", "--longest", "2s", "--connections", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tests"] > 0


def test_a_dry_run_shows_the_plan_and_opens_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "127.0.0.1:1", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "by 9 connections at a time, which send no data\n" in told.err
    assert "silences of the first round: 5s" in told.err
    assert main(["measure", "127.0.0.1:1", "--token", "secret", "--dry-run"]) == 0
    assert (
        "by 78 connections at a time, which send no data once they have proved the token\n" in capsys.readouterr().err
    )
    assert default_name("[fd00::9]:22") == "to fd00::9"
