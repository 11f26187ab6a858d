"""What a command line names, in words."""

from __future__ import annotations

import pytest

from keepaliveD.cli.targets.named import MAX_PID, described


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("812", "process 812"),
        (str(MAX_PID), f"process {MAX_PID}"),
        ("77357170", "cookie 77357170"),
        ("9" * 5000, f"cookie {'9' * 5000}"),
        ("amanda@backup", "amanda@backup"),
        ("sk:49c5c72", "sk:49c5c72"),
    ],
)
def test_a_number_that_no_process_can_have_is_a_cookie(target: str, words: str) -> None:
    assert described(target) == words
