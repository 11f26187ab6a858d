"""Where entries go, and in which form."""

import contextlib
import dataclasses
import io
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.log import journal as module
from keepaliveD.log.complaint import complain
from keepaliveD.log.entries import ERROR, WARNING, Entry
from keepaliveD.log.journal import JournaldLog, JsonLog, SyslogLog, TextLog, leads_to_journal, never_waiting, open_log
from keepaliveD.model.errors import Unsupported
from tests.support.patience import SOON

ENTRY = Entry("bare", WARNING, "somebody falls silent", {"KEEPALIVE_LEFT_SEC": 58.0, "KEEPALIVE_PROCESS": "x\ny"})
NOON = time.struct_time((2026, 1, 2, 12, 0, 0, 4, 2, 0))


def text(entry: Entry, *, levels: bool = False) -> str:
    stream = io.StringIO()
    TextLog(stream.write, lambda: NOON, levels=levels)(entry)
    return stream.getvalue()


def test_text_is_a_line_with_the_time_and_the_urgency() -> None:
    assert text(ENTRY) == "12:00:00 warning: somebody falls silent\n"


def test_text_for_a_service_manager_has_its_levels_instead() -> None:
    """sd-daemon(3): without systemd-python the priority still reaches journald."""
    assert text(ENTRY, levels=True) == "<4>somebody falls silent\n"


def test_text_is_one_line_whatever_the_message_holds() -> None:
    assert text(Entry("bare", ERROR, "a\nb\x1b[2J")) == "12:00:00 error: a\\nb\\x1b[2J\n"


TO_PASTE = Entry("died", WARNING, "it ended, configure:", {"KEEPALIVE_UID": 7}, ("[[path]]", 'name = "a\x1b"'))


def test_what_follows_a_message_stands_below_it_in_lines_of_its_own() -> None:
    assert text(TO_PASTE) == '12:00:00 warning: it ended, configure:\n         [[path]]\n         name = "a\\x1b"\n'
    assert text(TO_PASTE, levels=True) == '<4>it ended, configure:\n<4>[[path]]\n<4>name = "a\\x1b"\n'


def test_syslog_gets_what_follows_a_message_in_messages_of_its_own() -> None:
    sent = [line for _, line in all_by_syslog(TO_PASTE)]
    assert sent == [
        f"it ended, configure: MESSAGE_ID={TO_PASTE.message_id} KEEPALIVE_UID=7",
        "[[path]]",
        'name = "a\\x1b"',
    ]


def test_json_is_one_object_a_line_with_the_journals_names() -> None:
    stream = io.StringIO()
    JsonLog(stream.write, lambda: 1234.56789)(ENTRY)
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue()) == {
        "timestamp": 1234.568,
        "MESSAGE": "somebody falls silent",
        "MESSAGE_ID": ENTRY.message_id,
        "PRIORITY": 4,
        "KEEPALIVE_LEFT_SEC": 58.0,
        "KEEPALIVE_PROCESS": "x\ny",
    }


def test_a_stream_leads_to_the_journal_if_the_manager_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "a").open("w") as stream, (tmp_path / "b").open("w") as other:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert leads_to_journal(stream)
        assert not leads_to_journal(other)
        assert isinstance(open_log("auto", stream), JournaldLog)
        assert isinstance(open_log("auto", other), TextLog)


def test_without_systemd_python_the_journal_still_gets_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    with (tmp_path / "a").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert isinstance(open_log("auto", stream), TextLog)


def test_asking_for_the_journal_without_systemd_python_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    with pytest.raises(Unsupported, match="systemd-python"):
        open_log("journal", io.StringIO())


def test_journald_gets_text_for_every_field() -> None:
    sent: list[tuple[str, dict[str, str]]] = []
    log = JournaldLog()
    log._send = lambda message, **fields: sent.append((message, fields))
    log(ENTRY)
    message, fields = sent[0]
    assert message == "somebody falls silent"
    assert fields["KEEPALIVE_LEFT_SEC"] == "58.0"
    assert (fields["PRIORITY"], fields["MESSAGE_ID"], fields["SYSLOG_IDENTIFIER"]) == (
        "4",
        ENTRY.message_id,
        "tcp-keepalived",
    )


def by_syslog(entry: Entry) -> tuple[int, str]:
    """The one message that reaches syslog(3)."""
    (sent,) = all_by_syslog(entry)
    return sent


def all_by_syslog(entry: Entry) -> list[tuple[int, str]]:
    """What reaches syslog(3)."""
    sent: list[tuple[int, str]] = []
    log = open_log("syslog", io.StringIO())
    assert isinstance(log, SyslogLog)
    log._send = lambda priority, line: sent.append((priority, line))  # type: ignore[assignment]
    log(entry)
    return sent


def test_syslog_gets_the_message_and_every_field() -> None:
    entry = Entry("bare", WARNING, "somebody falls silent", {"KEEPALIVE_LEFT_SEC": 58.0, "KEEPALIVE_PATH": "office"})
    assert by_syslog(entry) == (
        WARNING,
        f"somebody falls silent MESSAGE_ID={entry.message_id} KEEPALIVE_LEFT_SEC=58.0 KEEPALIVE_PATH=office",
    )


def test_a_value_of_several_words_is_quoted_so_that_a_shell_or_a_parser_finds_its_end() -> None:
    fields = {
        "KEEPALIVE_PATH": 'the "old" C:\\ firewall',
        "KEEPALIVE_UNIT": "",
        "KEEPALIVE_PROCESS": "a KEEPALIVE_PID=1",
    }
    line = by_syslog(Entry("bare", WARNING, "silent", fields))[1]
    assert dict(word.split("=", 1) for word in shlex.split(line)[1:]) == {"MESSAGE_ID": ENTRY.message_id, **fields}


@given(st.text(), st.text())
def test_nothing_forges_a_line_of_syslog(message: str, value: str) -> None:
    """Neither a line break, nor what syslog(3) would refuse: a NUL, a surrogate."""
    line = by_syslog(Entry("bare", WARNING, message, {"KEEPALIVE_PROCESS": value}))[1]
    assert line.isprintable()
    line.encode()


def test_syslog_takes_what_it_is_given() -> None:
    """The real syslog(3): a % is no format, and nobody listening is no failure."""
    SyslogLog()(Entry("bare", WARNING, "100 %s %n", {"KEEPALIVE_PROCESS": "\udcff\0"}))


def test_every_line_of_a_complaint_stands_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    complain("tcp-keepalived", "a.toml: x: wrong\na.toml: y: \x1b[2J")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["tcp-keepalived: a.toml: x: wrong", "tcp-keepalived: a.toml: y: \\x1b[2J"]


def test_a_reader_that_went_away_does_not_end_the_daemon() -> None:
    """`tcp-keepalived | head` must still restore what it found."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        for form in ("text", "json"):
            open_log(form, stream)(ENTRY)


@pytest.mark.parametrize("form", ["auto", "text", "json"])
def test_a_program_whose_standard_error_is_closed_has_a_log_that_goes_nowhere(form: str) -> None:
    open_log(form, None)(ENTRY)


def filled_pipe(room: int) -> tuple[int, int]:
    """A pipe with no more room than this for what is written at once."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(write, b"x" * 4096):
            pass
    os.set_blocking(write, True)
    os.read(read, room)
    return read, write


def test_a_reader_that_does_not_read_stalls_nobody_and_learns_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither whoever logs nor the end of the program waits for it."""
    monkeypatch.setattr(module, "PATIENCE", SOON)  # for the last entry, whenever the writer has its turn
    read, write = filled_pipe(0)
    with os.fdopen(write, "w") as stream, os.fdopen(read, "rb") as reader:
        with never_waiting(open_log("json", stream), room=3) as log:
            for number in range(100):
                log(dataclasses.replace(ENTRY, message=f"number {number}"))
            drained = threading.Thread(target=lambda: reader.read(65536))
            drained.start()
            drained.join()
            until(log._entries.empty)  # type: ignore[attr-defined]
            log(dataclasses.replace(ENTRY, message="the last"))
        stream.close()
        said = [json.loads(line)["MESSAGE"] for line in reader]
    reports = [message for message in said if message.startswith("dropped ")]  # two where whoever logs is interrupted
    lost = sum(int(report.split()[1]) for report in reports)
    assert "log entries: " in reports[0]
    assert said[-1] == "the last"
    assert len(said) - 1 - len(reports) + lost == 100
    assert said[:3] == ["number 0", "number 1", "number 2"]


def test_the_end_of_a_program_does_not_wait_for_a_reader_that_never_comes_back() -> None:
    read, write = filled_pipe(0)
    with os.fdopen(write, "w") as stream:
        start = time.monotonic()
        with never_waiting(open_log("text", stream), room=1) as log:
            for _ in range(10):
                log(ENTRY)
        assert time.monotonic() - start < SOON
        os.close(read)  # ends the writer's thread, too


def until(seen: Callable[[], bool]) -> None:
    while not seen():
        time.sleep(0.001)
