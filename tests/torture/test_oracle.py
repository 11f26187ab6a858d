"""The oracle of the kills: it excuses what nobody could have seen, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.support.rig import TIME
from tests.torture.oracle import Foreign, Touch, Verdict, judge, touches, windows

LOG = Path("log")
FIRST = Foreign(TIME, 7200, 0.0, 0.0)
OTHERS = Foreign(TIME, 9000, 5.0, 5.1)


def read(value: int, start: float) -> Touch:
    return Touch(LOG, TIME, value, False, start, start + 0.1)


def wrote(value: int, start: float) -> Touch:
    return Touch(LOG, TIME, value, True, start, start + 0.1)


def test_what_somebody_else_wrote_last_must_stand() -> None:
    """Whatever we did before and after."""
    ours = [read(7200, 1), wrote(180, 2), read(9000, 6), wrote(180, 7), wrote(9000, 9)]
    assert judge(9000, [FIRST, OTHERS], ours) == Verdict(None, 0)
    assert judge(7200, [FIRST, OTHERS], ours) == Verdict(OTHERS, 0)


def test_a_value_that_we_read_and_overwrote_is_lost() -> None:
    """It could have been recorded."""
    ours = [read(7200, 1), read(9000, 6), wrote(180, 7), wrote(7200, 9)]
    assert judge(7200, [FIRST, OTHERS], ours) == Verdict(OTHERS, 0)


def test_a_value_between_our_last_read_and_our_write_is_excused_and_counted() -> None:
    """No program sees it; what stood before must stand then."""
    ours = [read(7200, 4.8), wrote(180, 5.2), wrote(7200, 9)]
    assert judge(7200, [FIRST, OTHERS], ours) == Verdict(None, 1)
    assert judge(180, [FIRST, OTHERS], ours) == Verdict(FIRST, 1)


def test_a_value_that_we_overwrote_without_a_look_is_lost() -> None:
    """Or after a look by another process of ours."""
    elsewhere = Touch(Path("other"), TIME, 7200, False, 4.8, 4.9)
    assert judge(180, [FIRST, OTHERS], [elsewhere, wrote(180, 5.2)]) == Verdict(OTHERS, 0)


def test_a_value_that_we_never_overwrote_is_lost_if_it_does_not_stand() -> None:
    """Then the oracle itself has missed something: that is no excuse."""
    assert judge(180, [FIRST, OTHERS], [read(7200, 1), wrote(180, 2)]) == Verdict(OTHERS, 0)


def test_it_reads_what_strace_writes(tmp_path: Path) -> None:
    """Calls that were under way when the process was killed end then; the ends of files say nothing."""
    log = tmp_path / "log"
    file = "/proc/sys/net/ipv4/tcp_keepalive_time"
    log.write_text(
        f'7 10.5 read(4<{file}>, "7200\\n", 8192) = 5 <0.25>\n'
        f'7 10.6 read(4<{file}>, "", 8187) = 0 <0.1>\n'
        f'7 10.7 pread64(4<{file}>, "7200\\n", 64, 0) = 5 <0.1>\n'
        f'7 11.0 pwrite64(4<{file}>, "180\\n", 4, 0) = 4 <0.5>\n'
        f'7 12.0 write(4<{file}>, "60\\n", 3) = -1 EPERM (Operation not permitted) <0.1>\n'
        f'7 13.0 write(4<{file}>, "60\\n", 3 <unfinished ...>\n'
        "7 13.1 +++ killed by SIGKILL +++\n"
    )
    seen = list(touches(log))
    assert [(each.writes, each.value, each.start, each.end) for each in seen] == [
        (False, 7200, 10.5, 10.75),
        (False, 7200, 10.7, 10.799999999999999),
        (True, 180, 11.0, 11.5),
        (True, 60, 13.0, 13.1),
    ]
    assert [round(window, 3) for window in windows(seen)] == [0.8, 2.4]
