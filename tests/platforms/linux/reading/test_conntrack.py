"""What an answer of conntrack says, from messages made by hand."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from keepaliveD.model.firewall import ENTRY
from keepaliveD.platforms.linux.reading.conntrack import (
    BODY,
    CT_NEW,
    ESTABLISHED,
    HEADER,
    PROTOINFO,
    TIMEOUT,
    _place,
    _request,
    take,
)
from tests.platforms.linux.reading.netlink import attribute, error, message

NESTED = 0x8000
FAMILY = struct.pack("=BBH", 2, 0, 0)
SYSCTL = 20.0  # seconds
CLOSE_WAIT = 5


def answered(answer: bytes) -> np.ndarray:
    answers = np.zeros(2, ENTRY)
    answers["timeout"] = SYSCTL
    take(answer, answers)
    return answers


def entry(*, left: int | None, state: int = ESTABLISHED) -> bytes:
    """The answer about the second connection; an offloaded one has neither a timeout nor a state."""
    tcp = attribute(PROTOINFO | NESTED, attribute(1 | NESTED, attribute(1, bytes([state]))))
    body = b"" if left is None else attribute(TIMEOUT, struct.pack(">I", left)) + tcp
    return message(CT_NEW, FAMILY + body, flags=0)


def test_an_entry_says_when_it_ends() -> None:
    answers = answered(entry(left=12))
    assert answers["found"].tolist() == [False, True]
    assert (answers["forgets_in"][1], answers["timeout"][1]) == (12.0, SYSCTL)


@pytest.mark.parametrize(("left", "state"), [(300, ESTABLISHED), (12, CLOSE_WAIT)])
def test_where_another_timeout_applies_none_is_claimed(left: int, state: int) -> None:
    answers = answered(entry(left=left, state=state))
    assert answers["forgets_in"][1] == left
    assert math.isnan(answers["timeout"][1])


def test_the_entry_of_an_offloaded_connection_says_nothing() -> None:
    assert not answered(entry(left=None))["found"].any()


def test_no_entry_is_no_answer() -> None:
    assert not answered(error(-2))["found"].any()


@pytest.mark.parametrize(
    ("flow", "family", "addresses"),
    [
        ((0, 0xFFFF_7F00_0001, 0, 0xFFFF_0A01_0203, 1, 0x1234, 443), 2, {1: "7f000001", 2: "0a010203"}),
        (
            (0x2001_0DB8 << 32, 1, 0xFE80 << 48, 2, 1, 0x1234, 443),
            10,
            {3: "20010db8000000000000000000000001", 4: "fe800000000000000000000000000002"},
        ),
    ],
)
def test_a_question_has_the_addresses_and_ports_of_its_flow(
    flow: tuple[int, ...], family: int, addresses: dict[int, str]
) -> None:
    question = _request(7, flow)
    length, _, _, number, _ = HEADER.unpack_from(question)
    assert (length, number, question[HEADER.size]) == (len(question), 7, family)

    def value(*kinds: int) -> str:
        place = BODY, length
        for kind in kinds:
            place = _place(question, place, kind)
        return question[slice(*place)].hex()

    assert {kind: value(1, 1, kind) for kind in (1, 2, 3, 4) if value(1, 1, kind)} == addresses
    assert [value(1, 2, kind) for kind in (1, 2, 3, 4)] == ["06", "1234", "01bb", ""]


def test_an_answer_that_is_cut_off_says_nothing() -> None:
    whole = entry(left=12)
    for end in range(HEADER.size, len(whole)):
        take(whole[:end], np.zeros(2, ENTRY))
    assert not answered(whole[: BODY + 4])["found"].any()
