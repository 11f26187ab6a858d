"""The files in /etc: what they may say, how they add up, and what is said where they are wrong."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import pwd
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli import report
from keepaliveD.config import Config, document, doubts, files, load
from keepaliveD.config.catalogue import catalogue
from keepaliveD.model.causes import BY_KEY, EXPECTED, Cause
from keepaliveD.model.connections import Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import ConfigError, Exit, NoInput, Refusal
from keepaliveD.model.keepalive import MAX_IDLE, MAX_PROBES, Keepalive
from keepaliveD.model.rules import ArmAction, ArmRule, OnDrift
from tests.support.unprivileged import as_nobody, reachable_directory

SHIPPED = Path(__file__).parents[2] / "etc/tcp-keepalived/config.toml"


class Etc:
    """A directory with a main file and those in config.d."""

    def __init__(self, directory: Path) -> None:
        self.main = directory / "config.toml"
        self.drop_ins = directory / "config.d"
        self.drop_ins.mkdir()

    def load(self, main: str | bytes = "", **drop_ins: str) -> Config:
        self.main.write_bytes(main if isinstance(main, bytes) else main.encode())
        for name, text in drop_ins.items():
            (self.drop_ins / f"{name}.toml").write_text(text)
        return load(self.main)

    def refused(self, main: str | bytes = "", **drop_ins: str) -> list[str]:
        """What is said, line by line."""
        with pytest.raises(ConfigError) as refused:
            self.load(main, **drop_ins)
        assert refused.value.status == Exit.CONFIG
        return str(refused.value).splitlines()


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


# what is shipped


@pytest.fixture(autouse=True)
def no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test must not read what is installed here."""
    monkeypatch.setattr(files, "DEFAULT_FILE", tmp_path / "nothing-installed/config.toml")


def test_the_shipped_file_says_what_holds_without_it() -> None:
    """Every value in it is the default: whoever reads it knows what an empty file does."""
    shipped = load(SHIPPED)
    assert shipped.files == (SHIPPED,)
    defaults = load()
    assert defaults.files == ()
    for name in Config.__slots__:
        if name != "files":
            assert getattr(shipped, name) == getattr(defaults, name), name


@pytest.mark.parametrize("section", ["keepalive", "watch"])
def test_the_shipped_file_shows_every_setting(section: str) -> None:
    """A setting that is not in it would have to be guessed."""
    model = document.Document.model_fields[section].annotation
    assert model is not None
    shown = tomllib.loads(SHIPPED.read_text())[section]
    assert shown.keys() == model.model_fields.keys()


def example(section: str) -> str:
    """The entries of this section that stand in the shipped file's comments."""
    lines = SHIPPED.read_text().splitlines()
    following = lines[lines.index(f"# [[{section}]]") :]
    end = next((number for number, line in enumerate(following) if re.match(rf"# \[\[(?!{section})", line)), None)
    shown = [line.removeprefix("# ") for line in following[:end]]
    return "\n".join(line for line in shown if re.match(r"\[\[|\w+ = ", line))


def test_the_shipped_file_shows_every_key_of_a_path_in_an_example_that_works(etc: Etc) -> None:
    """An example in a comment is copied before anything else is read."""
    shown = example("path")
    assert {key for path in tomllib.loads(shown)["path"] for key in path} == document.PathSection.model_fields.keys()
    loaded = etc.load(shown)
    assert [path.name for path in loaded.paths] == ["default", "office firewall", "cloud"]
    assert loaded.paths[1].timeout == 300
    assert loaded.paths[1].ports == (22, 5432)
    assert loaded.paths[2].timeout == 350


def test_the_shipped_file_shows_every_key_of_a_rule_in_an_example_that_works(
    etc: Etc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda _: pwd.struct_passwd(("backup", "", 34, 34, "", "", "")))
    shown = example("arm")
    assert {key for rule in tomllib.loads(shown)["arm"] for key in rule} == document.ArmSection.model_fields.keys()
    first, _ = etc.load(shown).arm
    assert (first.name, first.action, first.idle, first.users) == ("arm[1]", ArmAction.ENABLE, None, (34,))
    assert first.verdicts == (Verdict.LATE, Verdict.BARE)


def test_the_shipped_file_names_every_preset() -> None:
    """In the order of the catalogue."""
    comment = SHIPPED.read_text().split("one of:")[1].split("#\n")[0]
    assert re.findall(r"[a-z][a-z0-9-]+", comment) == list(catalogue())


# what is read


def test_every_setting_reaches_the_model(etc: Etc) -> None:
    """A setting that is read and then forgotten would be worse than an unknown one."""
    loaded = etc.load(
        """
        [keepalive]
        apply = false
        idle = "2min"
        interval = "30s"
        probes = 7
        restore_on_stop = false
        on_drift = "yield"
        [watch]
        interval = "5s"
        warn_before = "1min 30s"
        engine = "netlink"
        namespaces = "own"
        ignore = ["10.0.0.0/8", "fd00::/8"]
        default_timeout = "infinity"
        [autopsy]
        enabled = false
        log = ["local-kill", "peer-closed"]
        [[path]]
        name = "a"
        networks = ["192.0.2.0/24", "2001:db8::/32", "192.0.2.1"]
        ports = [22, 65535]
        interface = "eth1"
        timeout = "1h"
        [[path]]
        name = "b"
        preset = "azure-lb"
        [[path]]
        name = "c"
        timeout = "5min"
        measured = 2026-11-28
        counts = "data"
        [[path]]
        name = "d"
        preset = "envoy"
        [[path]]
        name = "e"
        preset = "envoy"
        counts = "packets"
        """
    )
    assert loaded.keepalive == Keepalive(120, 30, 7)
    assert (loaded.apply, loaded.restore_on_stop, loaded.on_drift) == (False, False, OnDrift.YIELD)
    assert (loaded.interval, loaded.warn_before, loaded.all_namespaces) == (5, 90, False)
    assert loaded.ignore == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    default, a, b, c, d, e = loaded.paths
    assert (default.name, default.timeout, str(default.origin)) == ("default", FOREVER, f"configured in {etc.main}")
    assert [str(network) for network in a.networks] == ["192.0.2.0/24", "2001:db8::/32", "192.0.2.1/32"]
    assert (a.ports, a.interface, a.timeout) == ((22, 65535), "eth1", 3600)
    assert str(a.origin) == f"configured in {etc.main}"
    assert (b.networks, b.ports, b.interface, b.timeout, str(b.origin)) == ((), (), "", 240, "preset azure-lb")
    assert (c.timeout, str(c.origin)) == (300, "measured 2026-11-28")
    counts = [WhatCounts.PACKETS, WhatCounts.PACKETS, WhatCounts.DATA, WhatCounts.DATA, WhatCounts.PACKETS]
    assert [path.counts for path in (a, b, c, d, e)] == counts
    assert loaded.selects_by_interface
    assert (loaded.autopsy, loaded.logged_causes) == (False, frozenset({Cause.LOCAL_KILL, Cause.PEER_CLOSED}))


def test_ends_of_daily_work_are_logged_only_where_that_is_asked_for(etc: Etc) -> None:
    assert etc.load().logged_causes == set(BY_KEY.values()) - EXPECTED
    assert etc.load("[autopsy]\nlog = 'all'").logged_causes == set(BY_KEY.values())
    assert etc.load("[autopsy]\nlog = []").logged_causes == frozenset()
    assert Cause.PEER_CLOSED in etc.load("[autopsy]\nlog = ['unexpected', 'peer-closed']").logged_causes


def test_ends_are_logged_of_some_units_and_users(etc: Etc) -> None:
    loaded = etc.load("[autopsy]\nunit = ['amanda@*.service', 'ssh']\nuser = ['root', 1000]")
    assert (loaded.logged_units, loaded.logged_users) == (("amanda@*.service", "ssh.service"), (0, 1000))
    assert (etc.load().logged_units, etc.load().logged_users) == ((), ())
    with pytest.raises(ConfigError, match=r"autopsy\.user"):
        etc.load("[autopsy]\nuser = 'nobody-of-this-name'")


def test_the_default_timeout_is_a_guess_until_somebody_changes_it(etc: Etc) -> None:
    """And then a warning that rests on it is as urgent as any; the shipped file has the shipped value."""
    for shipped in ("[watch]\n", "[watch]\ndefault_timeout = '4min'\n"):
        (path,) = etc.load(shipped).paths
        assert (path.timeout, str(path.origin)) == (240, "guess: watch.default_timeout")
    (path,) = etc.load("[watch]\ndefault_timeout = '5min'\n").paths
    assert (path.timeout, path.origin.guessed) == (300, False)


@pytest.mark.parametrize(
    ("cloud", "timeout", "origin"),
    [
        ("Google Compute Engine", 600, "guess: Google Compute Engine"),
        ("Microsoft Azure", 240, "guess: Microsoft Azure"),
        ("Amazon EC2", 350, "guess: Amazon EC2"),
        ("", 240, "guess: watch.default_timeout"),
    ],
)
def test_the_platform_makes_a_better_guess_than_none(etc: Etc, cloud: str, timeout: float, origin: str) -> None:
    """It is still a guess, and never overrides what somebody wrote."""
    path, office = etc.load("[[path]]\nname = 'office'\ntimeout = '9min'\n").within(cloud).paths
    assert (path.timeout, str(path.origin), path.origin.guessed) == (timeout, origin, True)
    assert office.timeout == 540
    (written,) = etc.load("[watch]\ndefault_timeout = '5min'\n").within(cloud).paths
    assert (written.timeout, written.origin.guessed) == (300, False)


def test_a_path_may_never_forget(etc: Etc) -> None:
    """A direct cable is a path too; and without an interface nobody asks for the addresses."""
    loaded = etc.load('[[path]]\nname = "cable"\ntimeout = "infinity"\n')
    assert loaded.paths[1].timeout == FOREVER
    assert not loaded.selects_by_interface


def test_an_empty_file_is_enough(etc: Etc) -> None:
    """Everything has a default."""
    assert etc.load().keepalive == load().keepalive


def test_without_a_file_in_etc_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a config.d alone is read."""
    monkeypatch.setattr(files, "DEFAULT_FILE", tmp_path / "config.toml")
    assert load().files == ()
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d/local.toml").write_text("[keepalive]\nprobes = 5\n")
    assert load().keepalive.probes == 5
    (tmp_path / "config.toml").write_text("[keepalive]\nprobes = 6\n")
    assert load().files == (tmp_path / "config.toml", tmp_path / "config.d/local.toml")
    assert load().keepalive.probes == 5


# how files add up


def test_for_a_single_value_the_later_file_wins(etc: Etc) -> None:
    """config.d is read after the main file, in the order of its names, whatever the order on the disk."""
    loaded = etc.load(
        "[keepalive]\nprobes = 1\non_drift = 'warn'\n",
        **{"90-last": "[keepalive]\nprobes = 9\n", "10-first": "[keepalive]\nprobes = 2\napply = false\n"},
    )
    assert loaded.keepalive.probes == 9
    assert loaded.on_drift is OnDrift.WARN
    assert not loaded.apply
    assert [file.name for file in loaded.files] == ["config.toml", "10-first.toml", "90-last.toml"]


def test_paths_add_up_in_the_order_of_the_files(etc: Etc) -> None:
    """Each package may drop in its own; each says where it came from."""
    loaded = etc.load(
        '[[path]]\nname = "m"\ntimeout = "5min"\n',
        b='[[path]]\nname = "b"\ntimeout = "5min"\n',
        a='[[path]]\nname = "a1"\ntimeout = "5min"\n[[path]]\nname = "a2"\npreset = "envoy"\n',
    )
    assert [path.name for path in loaded.paths] == ["default", "m", "a1", "a2", "b"]
    assert str(loaded.paths[4].origin) == f"configured in {etc.drop_ins / 'b.toml'}"


def test_a_list_of_networks_is_a_single_value(etc: Etc) -> None:
    """Or one could never take a default out of it."""
    loaded = etc.load('[watch]\nignore = ["10.0.0.0/8"]\n', a="[watch]\nignore = []\n")
    assert loaded.ignore == ()


def test_only_toml_files_are_read_from_config_d(etc: Etc) -> None:
    """A backup copy or a README beside them is none, nor what an editor hides there."""
    for name in ("README", "a.toml~", "a.toml.dpkg-old", "b.conf", ".#a.toml", ".a.toml.swp"):
        (etc.drop_ins / name).write_text("this is no TOML")
    assert etc.load().files == (etc.main,)


# rules


def test_every_key_of_a_rule_reaches_the_model(etc: Etc) -> None:
    root = pwd.getpwuid(0).pw_name
    first, last = etc.load(
        f"""
        [[arm]]
        action = "enable"
        unit = ["a*.service", "b.service"]
        process = "amandad"
        container = "c0f*"
        user = ["{root}", 34, "35"]
        networks = ["10.20.0.0/16", "fd00::/8"]
        ports = [22, 10080]
        path = "off*"
        verdict = ["late", "cut"]
        idle = "1min"
        interval = "5s"
        probes = 3
        """
    ).arm
    assert first == ArmRule(
        name="arm[1]",
        action=ArmAction.ENABLE,
        idle=60,
        interval=5,
        probes=3,
        units=("a*.service", "b.service"),
        processes=("amandad",),
        containers=("c0f*",),
        users=(0, 34, 35),
        networks=(ipaddress.ip_network("10.20.0.0/16"), ipaddress.ip_network("fd00::/8")),
        ports=(22, 10080),
        paths=("off*",),
        verdicts=(Verdict.LATE, Verdict.CUT),
    )
    assert last == ArmRule("keepalive.arm", ArmAction.REARM, 180, 20, 31)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("nightly-backup", "nightly-backup.service"),
        ("amanda@backup", "amanda@backup.service"),
        ("back*up", "back*up.service"),
        ("backup.sh", "backup.sh.service"),
        ("a.service", "a.service"),
        ("session-3.scope", "session-3.scope"),
        ("a*.socket", "a*.socket"),
        ("*", "*"),
        ("amanda*", "amanda*"),
        ("db?", "db?"),
        ("db[12]", "db[12]"),
    ],
)
def test_a_unit_without_a_suffix_is_a_service_as_for_systemctl(etc: Etc, written: str, means: str) -> None:
    """A rule that never matches would be believed to protect."""
    assert etc.load(RULE + f"unit = '{written}'\n").arm[0].units == (means,)


def test_without_times_of_its_own_a_rule_takes_the_systems(etc: Etc) -> None:
    text = "[keepalive]\nidle = '100s'\ninterval = '10s'\nprobes = 7\n" + RULE
    assert [(each.idle, each.interval, each.probes) for each in etc.load(text).arm] == [(100, 10, 7)] * 2
    assert etc.load(text + "idle = 'auto'\ninterval = '2h'\n").arm[0].idle is None


def test_rules_add_up_in_the_order_of_the_files_and_the_last_concerns_all(etc: Etc) -> None:
    """The first match wins, so the order is what they mean."""
    rules = etc.load(
        RULE + "unit = 'm'\n",
        b=RULE + "unit = 'b'\n[keepalive]\narm = 'enable'\n",
        a=RULE + "unit = 'a1'\n" + RULE + "unit = 'a2'\n",
    ).arm
    assert [(rule.name, *rule.units) for rule in rules] == [
        ("arm[1]", "m.service"),
        ("arm[2]", "a1.service"),
        ("arm[3]", "a2.service"),
        ("arm[4]", "b.service"),
        ("keepalive.arm",),
    ]
    assert rules[-1].action is ArmAction.ENABLE


@pytest.mark.parametrize("action", ["observe", "rearm", "enable"])
def test_where_settings_are_not_applied_the_last_rule_observes(etc: Etc, action: str) -> None:
    """There is nothing to make true; rules that were written hold all the same."""
    first, last = etc.load(f"[keepalive]\napply = false\narm = '{action}'\n" + RULE).arm
    assert (first.action, last.action) == (ArmAction.ENABLE, ArmAction.OBSERVE)
    assert etc.load(f"[keepalive]\narm = '{action}'\n").arm[-1].action is ArmAction(action)


def test_a_stop_disarms_only_where_that_was_asked_for(etc: Etc) -> None:
    assert not etc.load().disarm_on_stop
    assert etc.load("[keepalive]\ndisarm_on_stop = true\n").disarm_on_stop


def test_a_mistake_in_a_rule_names_the_file_it_stands_in(etc: Etc) -> None:
    (line,) = etc.refused(RULE, a=RULE, b=RULE + "idle = '5s'\ninterval = '6s'\n")
    assert line.startswith(f"{etc.drop_ins / 'b.toml'}:4: arm[1].interval: ")


# what is wrong

RULE = "[[arm]]\naction = 'enable'\n"

WRONG = {
    # one wrong key each: what is written, what the line says
    "unknown key": ("[keepalive]\nidel = '1s'", "keepalive.idel: unknown key; did you mean idle?"),
    "key of another section": (
        "[watch]\nprobes = 5",
        r"watch.probes: unknown key here; it belongs in \[keepalive\] or \[\[arm\]\]",
    ),
    "unknown section": ("[keepalve]\nidle = '1s'", "keepalve: unknown key; did you mean keepalive?"),
    "section like nothing": ("[zzz]", "zzz: unknown key; known here: arm, autopsy, keepalive, path, watch"),
    "key without section": ("apply = true", r"apply: unknown key here; it belongs in \[keepalive\]"),
    "key like two others": ("[keepalive]\nbar = 5", "keepalive.bar: unknown key; known here: apply, arm, "),
    "key of a path": (
        "[[path]]\nname='a'\ntimeout='5s'\nport=[1]",
        r"path\[1\].port: unknown key; did you mean ports?",
    ),
    "number for a time": ("[keepalive]\nidle = 180", 'keepalive.idle: 180 has no unit; write .*"180s"'),
    "no unit": ("[keepalive]\nidle = '180'", "keepalive.idle: '180' has no unit; write"),
    "wrong unit": ("[keepalive]\ninterval = '20x'", "keepalive.interval: '20x' has an unknown unit 'x'; write"),
    "negative": ("[watch]\ninterval = '-15s'", "watch.interval: '-15s' is negative; write"),
    "zero": ("[keepalive]\nidle = '0s'", "keepalive.idle: '0s' is out of range; write whole seconds from 1s to 32767s"),
    "zero timeout": (
        "[watch]\ndefault_timeout = '0s'",
        "watch.default_timeout: '0s' is out of range; write 100ms to 10years, or \"infinity\"",
    ),
    "unknown cause": (
        "[autopsy]\nlog = 'peer-abort'",
        r"autopsy.log\[1\]: 'peer-abort' is not a cause; write \"unexpected\", \"all\" or causes; did you mean peer-a",
    ),
    "wrong kind of cause": ("[autopsy]\nlog = [1]", r"autopsy.log\[1\]: 1 is of the wrong kind; write log = "),
    "zero scan": ("[watch]\ninterval = '0s'", "watch.interval: '0s' is out of range; write 100ms to 1h"),
    "busy scan": ("[watch]\ninterval = '0.05s'", "watch.interval: '0.05s' is out of range; write 100ms to 1h"),
    "rare scan": ("[watch]\ninterval = '300years'", "watch.interval: '300years' is out of range; write 100ms to 1h"),
    "early warning": ("[watch]\nwarn_before = '25h'", "watch.warn_before: '25h' is out of range; write 100ms to 1d"),
    "long timeout": ("[watch]\ndefault_timeout = '11y'", "watch.default_timeout: '11y' is out of .* or \"infinity\""),
    "endless digits": (
        f"[watch]\ndefault_timeout = '{'9' * 400}s'",
        r"watch.default_timeout: '9+\.\.\.9+s' is too long; write",
    ),
    "too long": ("[keepalive]\nidle = '10h'", "keepalive.idle: '10h' is out of range; write whole seconds .* 32767s"),
    "infinite idle": ("[keepalive]\nidle = 'infinity'", "keepalive.idle: 'infinity' is out of range; write whole"),
    "infinite scan": ("[watch]\ninterval = 'infinity'", "watch.interval: 'infinity' is out of range; write"),
    "fraction": (
        "[keepalive]\ninterval = '1500ms'",
        "keepalive.interval: '1500ms' is out of range; write whole seconds",
    ),
    "no probes": ("[keepalive]\nprobes = 0", "keepalive.probes: 0 is out of range; write 1 to 127"),
    "many probes": ("[keepalive]\nprobes = 128", "keepalive.probes: 128 is out of range; write 1 to 127"),
    "probes as text": ("[keepalive]\nprobes = '9'", "keepalive.probes: '9' is of the wrong kind; write probes = 31"),
    "probes as truth": ("[keepalive]\nprobes = true", "keepalive.probes: true is of the wrong kind; write probes = 31"),
    "probes as fraction": (
        "[keepalive]\nprobes = 9.0",
        "keepalive.probes: 9.0 is of the wrong kind; write probes = 31",
    ),
    "truth as number": (
        "[keepalive]\napply = 1",
        "keepalive.apply: 1 is of the wrong kind; write apply = true or false",
    ),
    "truth as text": ("[keepalive]\napply = 'no'", "keepalive.apply: 'no' is of .*; write apply = true or false"),
    "unknown choice": ("[keepalive]\non_drift = 'ignore'", "keepalive.on_drift: 'ignore' is not one of 'reapply', "),
    "unknown engine": ("[watch]\nengine = 'ebpf'", "watch.engine: 'ebpf' is not one of 'auto', 'bpf' or 'netlink'"),
    "host bits": (
        "[watch]\nignore = ['10.0.0.0/8', '10.20.0.1/16']",
        r"watch.ignore\[2\]: '10.20.0.1/16' has bits beyond its prefix; did you mean \"10.20.0.0/16\"\?",
    ),
    "no network": ("[watch]\nignore = ['office']", r"watch.ignore\[1\]: 'office' is not a network; write one such as"),
    "network with an interface": (
        "[watch]\nignore = ['fe80::1%eth0']",
        r"watch.ignore\[1\]: .* is not a network; write",
    ),
    "network as number": ("[watch]\nignore = [10]", r"watch.ignore\[1\]: write a network such as"),
    "network without list": (
        "[watch]\nignore = '10.0.0.0/8'",
        r"watch.ignore: '10.0.0.0/8' is of the wrong kind; write ignore = \[\"10.20.0.0/16\"\]",
    ),
    "interval above idle": (
        "[keepalive]\nidle = '10s'\ninterval = '11s'",
        r"keepalive.interval: '11s' is longer than keepalive.idle \('10s', .*config.toml:2\); .*write at most '10s'",
    ),
    "idle below the default interval": (
        "[keepalive]\nidle = '10s'",
        r"keepalive.idle: '10s' is shorter than keepalive.interval \('20s', the default\); .*write at least '20s'",
    ),
    "warning too late": (
        "[watch]\ninterval = '2min'",
        r"watch.interval: '2min' is longer than watch.warn_before \('60s', the default\); .*: write at most '60s'",
    ),
    "path without name": ("[[path]]\ntimeout = '5s'", r"path\[1\].name: is missing"),
    "path with an empty name": (
        "[[path]]\nname = ''\ntimeout = '5s'",
        r"path\[1\].name: '' is not a name; write 1 to 100 printable characters",
    ),
    "path with a hostile name": (
        "[[path]]\nname = \"a\\u001b[2J\\nb\"\ntimeout = '5s'",
        r"path\[1\].name: 'a\\x1b\[2J\\nb' is not a name; write ",
    ),
    "path named default": ("[[path]]\nname = 'default'\ntimeout = '5s'", r"path\[1\].name: .*choose another name"),
    "path without timeout": ("[[path]]\nname = 'a'", r"path\[1\]: 'a' has neither a timeout nor a preset; write one"),
    "path with both": (
        "[[path]]\nname = 'a'\ntimeout = '5s'\npreset = 'envoy'",
        r"path\[1\]: 'a' has both a timeout and a preset; remove one",
    ),
    "unknown preset": (
        "[[path]]\nname = 'a'\npreset = 'aws_nlb'",
        r"path\[1\].preset: 'aws_nlb' is not in the catalogue; did you mean aws-nlb\?",
    ),
    "preset in capitals": (
        "[[path]]\nname = 'a'\npreset = 'AWS-NLB'",
        r"path\[1\].preset: 'AWS-NLB' is not in the catalogue; did you mean aws-nlb\?",
    ),
    "a measured preset": (
        "[[path]]\nname = 'a'\npreset = 'envoy'\nmeasured = 2026-11-28",
        r"path\[1\].measured: is the date of a timeout, and a preset was not measured; remove it, or write ",
    ),
    "counts something else": (
        "[[path]]\nname = 'a'\ntimeout = '5s'\ncounts = 'bytes'",
        r"path\[1\].counts: 'bytes' is not one of 'packets' or 'data'",
    ),
    "measured as text": (
        "[[path]]\nname = 'a'\ntimeout = '5s'\nmeasured = '2026-11-28'",
        r"path\[1\].measured: '2026-11-28' is not a date; write one without quotes and without a time, such as 2026-",
    ),
    "measured at a time": (
        "[[path]]\nname = 'a'\ntimeout = '5s'\nmeasured = 2026-11-28T10:00:00Z",
        r"path\[1\].measured: 2026-11-28T10:00:00.* is not a date; write one without quotes and without a time",
    ),
    "preset like nothing": (
        "[[path]]\nname = 'a'\npreset = 'zzz'",
        r"path\[1\].preset: 'zzz' is not in the catalogue; keepalivectl presets lists it",
    ),
    "port out of range": (
        "[[path]]\nname = 'a'\ntimeout = '5s'\nports = [22, 65536]",
        r"path\[1\].ports\[2\]: 65536 is out of range; write 1 to 65535",
    ),
    "port zero": ("[[path]]\nname = 'a'\ntimeout = '5s'\nports = [0]", r"path\[1\].ports\[1\]: 0 .*write 1 to 65535"),
    "port by name": (
        "[[path]]\nname = 'a'\ntimeout = '5s'\nports = ['ssh']",
        r"path\[1\].ports\[1\]: 'ssh' .*ports = \[22",
    ),
    "path with a long name": (
        f"[[path]]\ntimeout = '5s'\nname = '{'n' * 101}'",
        r"path\[1\].name: 'n+\.\.\.n+' is not a name; write 1 to 100",
    ),
    "path on no interface": (
        "[[path]]\nname = 'a'\ntimeout = '5s'\ninterface = 'a b'",
        r"path\[1\].interface: 'a b' is not an interface; write a name such as \"eth1\"",
    ),
    "zero path": ("[[path]]\nname = 'a'\ntimeout = '0s'", r"path\[1\].timeout: '0s' is out of range; write"),
    "section as text": ("keepalive = '180s'", r"keepalive: .*\[keepalive\]"),
    "section as array": ("[[watch]]\ninterval = '5s'", r"watch: .*\[watch\]"),
    "path as table": ("[path]\nname = 'a'\ntimeout = '5s'", r"path: .*\[\[path\]\]"),
    "path as text": ("path = 'a'", r"path: .*\[\[path\]\]"),
    "path of numbers": ("path = [1]", r"path\[1\]: .*\[\[path\]\]"),
    "rules as a number": ("arm = 3", r"arm: begin it with \[\[arm\]\]"),
    "rules as a table": ("[arm]\naction = 'enable'", r"arm: begin it with \[\[arm\]\]"),
    "rules of numbers": ("arm = [3]", r"arm\[1\]: begin it with \[\[arm\]\]"),
    "rule without action": ("[[arm]]\nunit = 'a'", r"arm\[1\].action: is missing"),
    "rule with an unknown action": (
        "[[arm]]\naction = 'kill'",
        r"arm\[1\].action: 'kill' is not one of 'observe', 'rearm' or 'enable'",
    ),
    "rule with an action that is no text": ("[[arm]]\naction = true", r"arm\[1\].action: true is not one of 'observe'"),
    "what to do without a rule": (
        "[keepalive]\narm = 'auto'",
        "keepalive.arm: 'auto' is not one of 'observe'",
    ),
    "a stop that is half true": (
        "[keepalive]\ndisarm_on_stop = 1",
        "keepalive.disarm_on_stop: 1 is of the wrong",
    ),
    "a table in a value's place": ("[keepalive.idle]\nx = 1", "keepalive.idle: {'x': 1} has no unit; write"),
}

WRONG_RULES = {
    # in a rule, after its action
    "an unknown key": ("units = 'a'", r"units: unknown key; did you mean unit\?"),
    "a key like nothing": ("zzz = 'a'", r"zzz: unknown key; known here: action, container,"),
    "an unknown user": (
        "user = 'no-such-user'",
        r"user\[1\]: 'no-such-user' is not a user of this system; write the name of one, or a number",
    ),
    "an unknown user among others": (
        "user = [0, 'no-such-user']",
        r"user\[2\]: 'no-such-user'",
    ),
    "no user": ("user = ''", r"user\[1\]: '' is not a user of this system; write"),
    "a hostile user": (
        'user = "a\\u0000b"',
        r"user\[1\]: 'a\\x00b' is not a user of this system",
    ),
    "half a user": ("user = 1.5", r"user\[1\]: write a user such as \"postgres\" or 1000"),
    "a true user": ("user = true", r"user\[1\]: write a user such as"),
    "an unknown verdict": (
        "verdict = 'dead'",
        r"verdict\[1\]: 'dead' is not one of 'late', 'bare' or 'cut'",
    ),
    "what is at no risk": (
        "verdict = ['bare', 'safe']",
        r"verdict\[2\]: 'safe' is not one of",
    ),
    "an empty pattern": (
        "unit = ''",
        r"unit\[1\]: is empty; leave it out to match everything",
    ),
    "an empty pattern among others": (
        "process = ['a', '']",
        r"process\[2\]: is empty; leave",
    ),
    "a long pattern": (
        f"process = '{'p' * 256}'",
        r"process\[1\]: 'p+\.\.\.p+' is too long; write at most 255 characters",
    ),
    "a user in digits of another script": ("user = '\u0661'", r"user\[1\]: '\u0661' is not a user"),
    "a user of thousands of digits": (f"user = '{'9' * 5000}'", r"user\[1\]: '9+\.\.\.9+' is not a user id"),
    "a number for a pattern": (
        "container = 5",
        r"container\[1\]: 5 is of the wrong kind; write container = \"\*\"",
    ),
    "a network that is none": (
        "networks = ['office']",
        r"networks\[1\]: 'office' is not a network",
    ),
    "a network alone": ("networks = '10.0.0.0/8'", r"networks: .* wrong kind; write networks = \["),
    "a port that is none": (
        "ports = [0]",
        r"ports\[1\]: 0 is out of range; write 1 to 65535",
    ),
    "a number for a time": ("idle = 180", r"idle: 180 has no unit; write .*\"180s\""),
    "an idle time that is none": (
        "idle = 'auto '",
        r"idle: 'auto ' is not a time span; write",
    ),
    "too long an idle time": (
        "idle = '10h'",
        r"idle: '10h' is out of range; write whole seconds",
    ),
    "an interval of its own": (
        "interval = 'auto'",
        r"interval: 'auto' is not a time span; write",
    ),
    "too many probes": ("probes = 128", r"probes: 128 is out of range; write 1 to 127"),
    "an interval above its idle": (
        "idle = '30s'\ninterval = '31s'",
        r"interval: '31s' is longer than idle \('30s', .*config.toml:3\); .*write at most '30s'",
    ),
    "an interval above the system's idle": (
        "interval = '3min 1s'",
        r"interval: '3min 1s' is longer than keepalive.idle \('180s', the default\); .*write at most '180s'",
    ),
    "an idle time below the system's interval": (
        "idle = '19s'",
        r"idle: '19s' is shorter than keepalive.interval \('20s', the default\); .*write at least '20s'",
    ),
}
WRONG_RULES |= {
    f"user {uid}": (f"user = {uid}", rf"user\[1\]: {said} is not a user id; write 0 to 4294967294")
    for uid, said in [("-1", "-1"), ("4294967295", "4294967295"), (f"'{2**32}'", f"'{2**32}'"), (f"{10**30}", "1000.*")]
}
WRONG |= {f"rule: {case}": (RULE + text, rf"arm\[1\].{said}") for case, (text, said) in WRONG_RULES.items()}


@pytest.mark.parametrize("case", WRONG)
def test_every_mistake_is_one_line_with_file_key_and_what_would_be_right(etc: Etc, case: str) -> None:
    """Whoever made it should not have to read the manual, nor this program."""
    text, expected = WRONG[case]
    (line,) = etc.refused(text)
    assert re.match(rf"{etc.main}:\d+: {expected}", line), line
    assert "section" not in line, "names of our own classes mean nothing to an administrator"


def test_a_mistake_in_the_systems_times_is_not_reported_for_each_rule_that_takes_them(etc: Etc) -> None:
    """There is nothing to put right in the rules."""
    (line,) = etc.refused("[keepalive]\nidle = '10s'\n" + RULE + RULE)
    assert line.startswith(f"{etc.main}:2: keepalive.idle: ")


def test_several_mistakes_are_reported_at_once(etc: Etc) -> None:
    """One reload for all of them, each with its own file, in the order in which they are corrected."""
    lines = etc.refused(
        "[keepalive]\nidle = 1\nprobes = 0\n", a="[watch]\ninterva = '5s'\n", b="[[path]]\nname = 'x'\ntimeout = 5\n"
    )
    a, b = etc.drop_ins / "a.toml", etc.drop_ins / "b.toml"
    assert [line.split(": ")[0:2] for line in lines] == [
        [f"{etc.main}:2", "keepalive.idle"],
        [f"{etc.main}:3", "keepalive.probes"],
        [f"{a}:2", "watch.interva"],
        [f"{b}:3", "path[1].timeout"],
    ]


def test_mistakes_between_keys_are_reported_at_once_too(etc: Etc) -> None:
    """They are found after the others."""
    assert len(etc.refused("[keepalive]\nidle = '5s'\n[watch]\nwarn_before = '1s'\n[[path]]\nname = 'a'\n")) == 3


def test_a_mistake_in_a_path_hides_no_other_in_it_or_elsewhere(etc: Etc) -> None:
    lines = etc.refused(
        """
        [keepalive]
        probes = 0
        [[path]]
        name = "a"
        preset = "cisco"
        networks = ["10.0.0.1/8"]
        ports = [0]
        timeout = "5min"
        measured = "yesterday"
        [[path]]
        nam = "b"
        measured = 2026-11-28
        [[path]]
        name = "a"
        preset = "aws-nlb"
        measured = 2026-11-28
        """
    )
    assert [line.removeprefix(f"{etc.main}:").split("; ")[0] for line in lines] == [
        "3: keepalive.probes: 0 is out of range",
        "4: path[1]: 'a' has both a timeout and a preset",
        "6: path[1].preset: 'cisco' is not in the catalogue",
        "7: path[1].networks[1]: '10.0.0.1/8' has bits beyond its prefix",
        "8: path[1].ports[1]: 0 is out of range",
        "10: path[1].measured: 'yesterday' is not a date",
        "11: path[2].name: is missing",
        "11: path[2]: has neither a timeout nor a preset",
        "12: path[2].nam: unknown key",
        f"15: path[3].name: 'a' is already the name of the path in {etc.main}:5",
        "17: path[3].measured: is the date of a timeout, and a preset was not measured",
    ]


def test_the_file_that_wrote_the_value_is_named(etc: Etc) -> None:
    """Not the one that touched the section last."""
    lines = etc.refused("[keepalive]\nprobes = 0\n", a="[keepalive]\napply = true\n")
    assert [line.split(": ")[0] for line in lines] == [f"{etc.main}:2"]


@pytest.mark.parametrize(
    ("main", "drop_in", "said"),
    [
        (
            "[keepalive]\nidle = '180s'\ninterval = '20s'",
            "[keepalive]\nidle = '10s'",
            "{drop}:2: keepalive.idle: '10s' ",
        ),
        ("[keepalive]\nidle = '180s'", "[keepalive]\n\nidle = '10s'", "{drop}:3: keepalive.idle: '10s' "),
        ("[keepalive]\nidle = '10s'", "[keepalive]\ninterval = '20s'", "{drop}:2: keepalive.interval: '20s' "),
        ("[keepalive]\ninterval = '20s'\nidle = '10s'", "", "{main}:3: keepalive.idle: '10s' "),
        ("[watch]\ninterval = '90s'", "", "{main}:2: watch.interval: '90s' is longer than watch.warn_before "),
        ("[watch]\ninterval = '20s'", "[watch]\nwarn_before = '5s'", "{drop}:2: watch.warn_before: '5s' is shorter "),
    ],
)
def test_of_two_values_that_contradict_each_other_the_last_that_was_written_is_named(
    etc: Etc, main: str, drop_in: str, said: str
) -> None:
    """It is the one that somebody has just changed; the other one is told with its place."""
    (line,) = etc.refused(main, a=drop_in)
    assert line.startswith(said.format(main=etc.main, drop=etc.drop_ins / "a.toml"))
    assert f"{etc.main}:" in line or "the default" in line


def test_a_mistake_in_a_list_is_reported_with_the_line_of_its_entry(etc: Etc) -> None:
    (line,) = etc.refused("[watch]\nignore = [\n  '10.0.0.0/8', # ours\n\n  'office',\n]")
    assert line.startswith(f"{etc.main}:5: watch.ignore[2]: 'office'")


def test_entries_are_counted_in_the_file_that_they_stand_in(etc: Etc) -> None:
    """Who reads config.d/b.toml does not count what stands in others."""
    path = "[[path]]\nname = '{}'\ntimeout = '{}'\n"
    lines = etc.refused(
        path.format("m", "5s"), a=path.format("a", "5s"), b=path.format("b", "5s") + path.format("c", 5)
    )
    assert [line.split(": ")[:2] for line in lines] == [[f"{etc.drop_ins / 'b.toml'}:6", "path[2].timeout"]]


def test_two_paths_of_one_name_are_refused_and_both_files_named(etc: Etc) -> None:
    """A log line that names a path must mean one."""
    (line,) = etc.refused('[[path]]\nname = "a"\ntimeout = "5s"\n', x='[[path]]\nname = "a"\ntimeout = "6s"\n')
    assert line == f"{etc.drop_ins / 'x.toml'}:2: path[1].name: 'a' is already the name of the path in {etc.main}:2"


@pytest.mark.parametrize(
    ("main", "drop_in", "guilty"),
    [
        ("[keepalive]\nidle = '100s'", "keepalive = '100s'", "config.d/a.toml:1: keepalive: "),
        ("keepalive = '100s'", "[keepalive]\nidle = '100s'", "config.toml:1: keepalive: "),
        ("[[path]]\nname = 'a'\ntimeout = '5s'", "path = 'x'", "config.d/a.toml:1: path: "),
        ("[path]\nname = 'a'\ntimeout = '5s'", "[[path]]\nname = 'b'\ntimeout = '5s'", "config.toml:1: path: "),
        ("[[path]]\nname = 'a'\ntimeout = '5s'", "[path]\nname = 'b'\ntimeout = '5s'", "config.d/a.toml:1: path: "),
        ("[watch]\ninterval = '5s'", "watch = []", "config.d/a.toml:1: watch: "),
    ],
)
def test_a_section_of_the_wrong_kind_is_never_covered_up_by_another_file(
    etc: Etc, main: str, drop_in: str, guilty: str
) -> None:
    """[path] for [[path]] is easily written; the firewall it describes must not be silently forgotten."""
    (line,) = etc.refused(main, a=drop_in)
    assert line.startswith(f"{etc.main.parent}/{guilty}")


@pytest.mark.parametrize(
    "text", ["[keepalive", "idle = ", "[keepalive]\nidle = '1s'\nidle = '2s'", "\x00", "x = 1e", "[a]\n[a]"]
)
def test_what_is_no_toml_is_refused_with_its_place(etc: Etc, text: str) -> None:
    """The line comes from the parser."""
    (line,) = etc.refused(text)
    assert re.fullmatch(rf"{etc.main}:\d+: not TOML: .+; .+", line)


def test_a_date_in_the_future_is_a_warning_for_the_clock_may_be_wrong(etc: Etc) -> None:
    """Tomorrow is today in another time zone."""
    path = "[[path]]\nname = 'a'\ntimeout = '5min'\nnetworks = ['10.0.0.0/8']\nmeasured = 2026-11-28"
    config = etc.load(path)
    assert list(doubts.warnings(config, datetime.date(2026, 11, 27))) == []
    (warning,) = doubts.warnings(config, datetime.date(2026, 11, 26))
    assert warning == (
        "path a: measured = 2026-11-28 is in the future, today is 2026-11-26; "
        "correct the date, or the clock of this host"
    )


TYPED: dict[str, tuple[str | bytes, str]] = {
    # what is no TOML, what the line says of it
    "a time without quotes": ("[watch]\ninterval = 60s", '2: not TOML: text needs quotes; write interval = "60s"'),
    "two words": ("[watch]\ninterval = 1h 30min # often", '2: .* write interval = "1h 30min"'),
    "a word without quotes": ("[watch]\nengine = bpf", '2: .* write engine = "bpf"'),
    "a network without quotes": ("[watch]\n\nignore = [ 10.0.0.0/8 ]", '3: .* write "10.0.0.0/8" in the list'),
    "a date that does not exist": (
        "[[path]]\nmeasured = 2026-13-41",
        "2: .*: 2026-13-41 is no date that exists; write ",
    ),
    "a date of another country": ("[[path]]\nmeasured = 28.11.2026 #", "2: .* write one such as measured = 2026-11-28"),
    "a truth of another language": ("[keepalive]\napply = True", "2: .* write apply = true"),
    "a yes": ("[keepalive]\napply = yes", "2: .* write apply = true"),
    "quotes of a word processor": ("[keepalive]\nidle = “180s”", r'2: .* wrong quotes; write idle = "\.\.\."'),
    "a colon": ("[keepalive]\nidle: '180s'", "2: .* write = instead of : after idle"),
    "no value": ("[keepalive]\nidle = # ?", "2: .* idle has no value"),
    "half a text": ("[keepalive]\nidle = '180s\nprobes = 5", '2: .*closing quote is missing; write idle = "180s"'),
    "half a text with a comment": ('[keepalive]\nidle = "180s # 3min', '2: .*missing; write idle = "180s"'),
    "half a text in a list": ("[watch]\nignore = ['::1]", "2: .*closing quote is missing; write ' at the end"),
    "a backslash": ('[keepalive]\nidle = "a\\q"', "2: .* a backslash must be doubled"),
    "half a list": ("[watch]\nignore = ['::1'\n[keepalive]", "3: .* the end of a list is missing; write"),
    "half a section": ("[[path]\nname = 'a'", "1: .* the end of a section's name is missing; write ] or ]]"),
    "no key": ("[watch]\n= 5", "2: .* write KEY = VALUE"),
    "a word": ("watch", "1: .* write KEY = VALUE"),
    "a path": ("/etc/tcp-keepalived", "1: .* write KEY = VALUE"),
    "too much": ("[keepalive]\nprobes = 9,", "2: .* in a line of its own"),
    "a key twice": ("[keepalive]\nprobes = 9\nprobes = 9", "3: .* this key was set before; remove"),
    "a section twice": ("[watch]\n[keepalive]\n[watch]\n", "3: .* this section was begun before; write"),
    "Latin-1": ("[watch]\n# Größe".encode("latin-1"), "2: not TOML: byte 0xf6 is not UTF-8; save the file as UTF-8"),
    "UTF-16": ("[watch]".encode("utf-16"), "1: not TOML: the file is UTF-16, or no text; save it as UTF-8"),
    "UTF-16 without a mark": ("[watch]".encode("utf-16-le"), "1: not TOML: the file is UTF-16"),
    "a control character": ("[watch]\n# \x07", "2: not TOML: there is a control character; remove it"),
    "a number without end": ("\nx = " + "9" * 5000 + "\n", "2: not TOML: a number has thousands of digits; write"),
    "an array without end": ("\nx = " + "[" * 5000, "2: not TOML: a key or a list is nested too deep; write"),
    "a table without end": ("\nx = " + "{a=" * 5000, "2: not TOML: a key or a list is nested too deep; write"),
    "a key without end": ("\n[watch]\n" + "a." * 2500 + "a = 1", "3: not TOML: a key or a list is nested too deep"),
    "a section without end": ("[" + "a." * 2500 + "a]", "1: not TOML: a key or a list is nested too deep"),
}


@pytest.mark.parametrize("case", TYPED)
def test_what_is_no_toml_is_answered_with_what_to_type_instead(etc: Etc, case: str) -> None:
    """Whoever writes 60s without quotes need not learn what a statement is."""
    text, expected = TYPED[case]
    (line,) = etc.refused(text)
    assert re.match(rf"{etc.main}:{expected}", line), line
    assert len(line) < len(str(etc.main)) + 200


def test_a_byte_order_mark_is_no_mistake(etc: Etc) -> None:
    """Editors write it where nobody sees it; systemd leaves it out, too."""
    assert etc.load(b"\xef\xbb\xbf[keepalive]\nprobes = 5\n").keepalive.probes == 5


def test_a_file_that_cannot_be_a_configuration_is_not_read_to_its_end(etc: Etc) -> None:
    """A mistyped name may be that of a core dump."""
    with etc.main.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"config\.toml: is larger than 1 MiB"):
        load(etc.main)


def test_a_value_that_fills_a_page_is_shown_shortened(etc: Etc) -> None:
    """The journal keeps the line, and a person reads it."""
    long = "x" * 100_000
    for text in (
        f"[keepalive]\nidle = '{long}'",
        f"[keepalive]\nidle = '180{long}'",
        f"[keepalive]\nidle = {long}",
        f"[keepalive]\nprobes = '{long}'",
        f"[keepalive]\non_drift = '{long}'",
        f"[keepalive]\n{long} = 1",
        f"[watch]\nignore = ['{long}']",
        f"[[path]]\nname = 'a'\npreset = '{long}'",
        f"[[path]]\nname = '{long}'\npreset = 'ipvs'",
        RULE + f"user = '{long}'",
        RULE + f"unit = '{long}'",
        "[watch]\ninterval = '" + "1s " * 30_000 + "'",
    ):
        (line,) = etc.refused(text)
        assert len(line) < len(str(etc.main)) + 400


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[keepalive]\nprobes = 0x" + "f" * 5000, id="a hexadecimal number without end"),
        pytest.param("[keepalive]\nidle = 1e400", id="a number that is none"),
        pytest.param("[keepalive]\nidle = 1979-05-27", id="a day"),
    ],
)
def test_a_file_that_is_meant_to_hurt_is_refused_like_any_other(etc: Etc, text: str) -> None:
    """Refused, in a line; a reload must leave the daemon alive."""
    (line,) = etc.refused(text)
    assert line.startswith(f"{etc.main}:2: keepalive.")
    assert len(line) < len(str(etc.main)) + 200


def test_hundreds_of_mistakes_are_counted(etc: Etc) -> None:
    """The log of a reload is read by people."""
    lines = etc.refused("\n".join(f"key{number} = 1" for number in range(300)))
    assert len(lines) == 51
    assert lines[-1] == f"{etc.main}:51: key50: and 249 more problems from here on"


@pytest.mark.parametrize(("key", "shown"), [('"a\\nb"', r"\nb"), ('"\\u001b[2J"', r"\x1b[2J"), ('""', '""')])
def test_a_key_cannot_end_the_line_that_speaks_of_it(etc: Etc, key: str, shown: str) -> None:
    """One line for each mistake, whatever the file holds."""
    for text in (f"{key} = 1", f"[keepalive]\n{key} = 1", f"[[path]]\nname = 'a'\ntimeout = '5s'\n{key} = 1"):
        (line,) = etc.refused(text)
        assert line.isprintable()
        assert shown in line


def test_a_value_cannot_end_the_line_that_speaks_of_it(etc: Etc) -> None:
    """A preset's name is shown as it was written, but for what moves a cursor."""
    (line,) = etc.refused("[[path]]\nname = 'a'\npreset = \"a\\nb\\u001b[2J\"")
    assert line.isprintable()


# files that cannot be read


def test_a_file_that_was_asked_for_and_is_not_there_is_refused(tmp_path: Path) -> None:
    """Only the usual place may be empty."""
    with pytest.raises(NoInput, match=r"absent\.toml: cannot be read: No such file or directory") as refused:
        load(tmp_path / "absent.toml")
    assert refused.value.status == Exit.NOINPUT


def test_a_directory_in_a_files_place_is_refused(etc: Etc) -> None:
    """In config.d too."""
    with pytest.raises(NoInput, match=r"config\.d: cannot be read: Is a directory"):
        load(etc.drop_ins)
    (etc.drop_ins / "a.toml").mkdir()
    with pytest.raises(NoInput, match=r"a\.toml: cannot be read: Is a directory"):
        etc.load()


def test_a_device_in_a_files_place_is_refused() -> None:
    """A mistyped name may be that of a disk."""
    with pytest.raises(NoInput, match="/dev/zero: cannot be read: it is not a regular file"):
        load(Path("/dev/zero"))


def test_a_link_to_a_file_is_as_good_as_the_file(etc: Etc, tmp_path: Path) -> None:
    """As configuration management makes them."""
    (tmp_path / "kept").write_text("[keepalive]\nprobes = 5\n")
    etc.main.symlink_to(tmp_path / "kept")
    assert load(etc.main).keepalive.probes == 5


@pytest.fixture
def locked() -> Iterator[Path]:
    """A directory whose config.toml can be read, while config.d is for root alone."""
    with reachable_directory() as directory:
        (directory / "config.toml").write_text("")
        (directory / "config.d").mkdir()
        (directory / "config.d/firewall.toml").write_text('[[path]]\nname = "a"\ntimeout = "5min"\n')
        yield directory


def test_a_file_that_may_not_be_read_is_refused(locked: Path) -> None:
    """With its name and the system's reason."""
    (locked / "config.d/firewall.toml").chmod(0)
    with as_nobody(), pytest.raises(NoInput, match=r"firewall\.toml: cannot be read: Permission denied"):
        load(locked / "config.toml")


def test_a_config_d_that_may_not_be_read_is_refused(locked: Path) -> None:
    """A firewall that is described in it would be forgotten, and nobody told."""
    (locked / "config.d").chmod(0)
    with as_nobody(), pytest.raises(NoInput, match=r"config\.d: cannot be read: Permission denied"):
        load(locked / "config.toml")


def test_a_directory_in_etc_that_may_not_be_entered_is_refused(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`keepalivectl sockets` needs no root, but it needs the configuration: it says so, in a line."""
    monkeypatch.setattr(files, "DEFAULT_FILE", locked / "config.toml")
    locked.chmod(0)
    with as_nobody(), pytest.raises(NoInput, match=r"config\.toml: cannot be read: Permission denied"):
        load()


# anything at all

KEYS = st.sampled_from(
    [
        *document.KeepaliveSection.model_fields,
        *document.WatchSection.model_fields,
        *document.PathSection.model_fields,
        *document.ArmSection.model_fields,
        "idel",
    ]
) | st.text(max_size=5)
SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.dates()
    | st.times()
    | st.datetimes(min_value=datetime.datetime(1000, 1, 1))  # noqa: DTZ001
    | st.sampled_from(
        [
            "180s",
            "5min",
            "infinity",
            "-1s",
            "10.0.0.0/8",
            "10.1.2.3/8",
            "::1",
            "envoy",
            "a",
            "default",
            "auto",
            "root",
            "enable",
        ]
    )
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
SECTIONS = st.dictionaries(KEYS, VALUES, max_size=5)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["keepalive", "watch", "path", "arm"]) | KEYS,
    SECTIONS | st.lists(SECTIONS, max_size=3) | VALUES,
    max_size=4,
)


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return toml_text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_text(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return repr(value)


def toml_text(text: str) -> str:
    """A basic string; JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def judge(etc: Etc, *texts: bytes) -> None:
    """Load these files: a configuration comes out, or a refusal with printable lines that name a file."""
    for old in etc.drop_ins.iterdir():
        old.unlink()
    etc.main.write_bytes(texts[0])
    for number, text in enumerate(texts[1:]):
        (etc.drop_ins / f"{number}.toml").write_bytes(text)
    try:
        loaded = load(etc.main)
    except Refusal as refusal:
        assert refusal.status in (Exit.DATAERR, Exit.NOINPUT, Exit.CONFIG)  # noqa: PT017
        lines = str(refusal).split("\n")
        assert all(len(line) < len(str(etc.main)) + 500 for line in lines)
        assert all(line.startswith(f"{etc.main.parent}{os.sep}") for line in lines)
        assert all(line.isprintable() for line in lines)
    else:
        assert 1 <= loaded.keepalive.interval <= loaded.keepalive.idle <= MAX_IDLE
        assert 1 <= loaded.keepalive.probes <= MAX_PROBES
        assert 0.1 <= loaded.interval <= 3600
        assert loaded.interval <= loaded.warn_before <= 86400
        assert all(0.1 <= path.timeout <= 10 * 366 * 86400 or path.timeout == FOREVER for path in loaded.paths)
        assert all(line.isprintable() for line in (*report.meaning(loaded), *doubts.warnings(loaded)))
        assert len({path.name for path in loaded.paths}) == len(loaded.paths)
        for rule in loaded.arm:
            assert 1 <= rule.interval <= (rule.idle or MAX_IDLE) <= MAX_IDLE
            assert 1 <= rule.probes <= MAX_PROBES
            assert all(0 <= uid < 2**32 - 1 for uid in rule.users)


ANY = hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)


@ANY
@given(st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_any_documents_are_a_configuration_or_a_refusal(etc: Etc, documents: list[dict[str, Any]]) -> None:
    """Whatever is written, in however many files: never a traceback, never a setting out of range."""
    texts = ["".join(f"{toml_text(key)} = {toml(value)}\n" for key, value in each.items()) for each in documents]
    for text in texts:
        tomllib.loads(text)
    judge(etc, *(text.encode() for text in texts))


@ANY
@given(st.binary(max_size=200) | st.text("[]{}='\"#.,keepaliv \n0x_-+:", max_size=80).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_refusal(etc: Etc, content: bytes) -> None:
    """Also what is no TOML at all."""
    judge(etc, content)


SHIPPED_BYTES = "\n".join([SHIPPED.read_text(), example("path"), example("arm")]).encode()
PIECES = st.binary(max_size=4) | st.sampled_from(
    [b'"', b"'", b"\n", b"[", b"]", b"=", b"#", b"9" * 5000, b"x" * 100_000]
)


@ANY
@given(st.lists(st.tuples(st.integers(0, len(SHIPPED_BYTES)), st.integers(0, 9), PIECES), min_size=1, max_size=5))
def test_the_shipped_file_with_any_damage_is_a_configuration_or_a_refusal(
    etc: Etc, damages: list[tuple[int, int, bytes]]
) -> None:
    """What an editor, a template or a disk makes of it."""
    content = SHIPPED_BYTES
    for place, removed, inserted in damages:
        content = content[:place] + inserted + content[place + removed :]
    judge(etc, content)
