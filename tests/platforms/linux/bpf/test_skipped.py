"""How often the kernel did not run a program, as /proc says it."""

from __future__ import annotations

from keepaliveD.platforms.linux.bpf import libbpf

SINCE_5_12 = """pos:\t0
flags:\t02000002
prog_type:\t26
run_time_ns:\t0
run_cnt:\t0
recursion_misses:\t7
verified_insns:\t2634
"""


def test_the_kernel_says_how_often_it_did_not_run_a_program() -> None:
    assert libbpf.skipped(SINCE_5_12) == 7


def test_a_kernel_that_does_not_say_it_has_run_the_program_each_time() -> None:
    assert libbpf.skipped("pos:\t0\nprog_type:\t26\nrun_cnt:\t0\n") == 0
