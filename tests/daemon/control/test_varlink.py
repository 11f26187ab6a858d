"""Varlink on the wire: exact answers, and nothing that a client can send makes it grow, stop, or answer another one."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepaliveD.daemon.control import varlink
from keepaliveD.daemon.control.varlink import (
    LONGEST,
    Broken,
    Client,
    Method,
    Parameters,
    Question,
    Refused,
    Replies,
    Service,
    continued,
    invalid,
)

INFO = {"vendor": "us", "product": "it", "version": "1", "url": "u", "interfaces": ["org.varlink.service", "a.b"]}


def echo(parameters: Parameters) -> Parameters:
    if parameters.get("text") == "wrong":
        raise invalid("text")
    return {"text": parameters.get("text", "nothing")}


def count(parameters: Parameters) -> Replies:
    """To the number that is asked for; at multiples of three there is nothing to say."""
    most = parameters.get("count", 0)
    if most < 0:
        raise invalid("count")
    for number in range(most):
        yield {"number": number} if number % 3 else None
    return {"number": most}


def guess(answer: object) -> Parameters:
    if answer == "no":
        raise Refused("a.b.Wrong")
    return {"answer": answer}


def forbidden(_: Parameters) -> Parameters:
    raise Refused("org.varlink.service.PermissionDenied")


SERVICE = Service(
    "us",
    "it",
    "1",
    "u",
    {"a.b": "interface a.b\nmethod Echo(text: ?string) -> (text: string)"},
    {
        "a.b.Echo": Method(echo, {"text": str, "count": int}),
        "a.b.Forbidden": Method(forbidden),
        "a.b.Watch": Method(lambda _: None, streams=True),
        "a.b.Count": Method(count, {"count": int}, streams=True),
        "a.b.Guess": Method(lambda given: Question(given["text"], guess), {"text": str}),
        "a.b.Order": Method(echo, {"text": str}, root_only=True),
    },
)


def exchange(client: Client, *octets: bytes) -> list[Any]:
    """What is answered to these octets."""
    for each in octets:
        client.receive(each)
    answers = b""
    while client.is_waiting:
        client.answer()
        answers += client.outgoing
        client.took(len(client.outgoing))
    assert not answers or answers.endswith(b"\0")
    return [json.loads(each) for each in answers.split(b"\0")[:-1]]


def call(method: str, **others: object) -> bytes:
    return json.dumps({"method": method, **others}).encode() + b"\0"


def error(name: str, **parameters: str) -> dict[str, object]:
    return {"error": f"org.varlink.service.{name}", "parameters": parameters}


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (call("org.varlink.service.GetInfo"), {"parameters": INFO}),
        (call("org.varlink.service.GetInfo", parameters=None, more=None), {"parameters": INFO}),
        (
            call("org.varlink.service.GetInterfaceDescription", parameters={"interface": "a.b"}),
            {"parameters": {"description": SERVICE.descriptions["a.b"]}},
        ),
        (
            call("org.varlink.service.GetInterfaceDescription", parameters={"interface": "org.varlink.service"}),
            {"parameters": {"description": varlink.STANDARD_DESCRIPTION}},
        ),
        (call("org.varlink.service.GetInterfaceDescription"), error("InvalidParameter", parameter="interface")),
        (
            call("org.varlink.service.GetInterfaceDescription", parameters={"interface": "x.y"}),
            error("InterfaceNotFound", interface="x.y"),
        ),
        (call("a.b.Echo", parameters={"text": "ö\x1b"}), {"parameters": {"text": "ö\x1b"}}),
        (call("a.b.Echo", parameters={"text": None}), {"parameters": {"text": "nothing"}}),
        (call("a.b.Echo", parameters={"text": 1}), error("InvalidParameter", parameter="text")),
        (call("a.b.Echo", parameters={"count": True}), error("InvalidParameter", parameter="count")),
        (call("a.b.Echo", parameters={"else": 1}), error("InvalidParameter", parameter="else")),
        (call("a.b.Echo", parameters={"text": "wrong"}), error("InvalidParameter", parameter="text")),
        (call("a.b.Nothing"), error("MethodNotFound", method="a.b.Nothing")),
        (call("x.y.Echo"), error("InterfaceNotFound", interface="x.y")),
        (call("Echo"), error("InterfaceNotFound", interface="")),
        (call("a.b.Forbidden"), error("PermissionDenied")),
        (call("a.b.Watch"), error("ExpectedMore")),
        (call("a.b.Count"), error("ExpectedMore")),
        (call("a.b.Count", more=True), {"parameters": {"number": 0}}),
        (call("a.b.Count", more=True, parameters={"count": -1}), error("InvalidParameter", parameter="count")),
        (call("a.b.Order"), {"parameters": {"text": "nothing"}}),
    ],
)
def test_a_call_is_answered_as_varlink_says(sent: bytes, answered: object) -> None:
    assert exchange(Client(SERVICE), sent) == [answered]


def test_calls_are_answered_in_their_order_however_they_arrive() -> None:
    sent = b"".join(call("a.b.Echo", parameters={"text": str(number)}) for number in range(9))
    answers = exchange(Client(SERVICE), *(sent[at : at + 7] for at in range(0, len(sent), 7)))
    assert [each["parameters"]["text"] for each in answers] == [str(number) for number in range(9)]


def test_a_call_that_wants_no_answer_gets_none() -> None:
    assert exchange(Client(SERVICE), call("a.b.Echo", oneway=True), call("a.b.Nothing", oneway=True)) == []
    client = Client(SERVICE)
    assert exchange(client, call("a.b.Watch", oneway=True, more=True)) == []
    assert client.streaming == ""


def test_a_call_that_goes_on_is_answered_until_the_client_goes() -> None:
    client = Client(SERVICE)
    assert exchange(client, call("a.b.Watch", more=True)) == []
    assert client.streaming == "a.b.Watch"
    client.go_on(continued({"text": "one"}))
    assert json.loads(client.outgoing[:-1]) == {"parameters": {"text": "one"}, "continues": True}


def test_many_replies_are_made_one_by_one_as_the_client_takes_them() -> None:
    """And the last one says that it is."""
    client = Client(SERVICE)
    client.receive(call("a.b.Count", more=True, parameters={"count": 3}) + call("a.b.Echo"))
    client.answer()
    assert client.outgoing == b""
    client.answer()
    assert client.is_waiting, "nothing was said yet"
    client.answer()
    assert client.outgoing == b'{"parameters":{"number":1},"continues":true}\0'
    assert not client.is_waiting, "it has not taken that"
    client.took(len(client.outgoing))
    assert not client.is_listened_to
    assert exchange(client) == [
        {"parameters": {"number": 2}, "continues": True},
        {"parameters": {"number": 3}},
        {"parameters": {"text": "nothing"}},
    ]


@pytest.mark.parametrize(
    ("answer", "replied"),
    [("yes", {"parameters": {"answer": "yes"}}), ("no", {"error": "a.b.Wrong", "parameters": {}})],
)
def test_a_question_to_somebody_else_is_answered_when_he_has(answer: str, replied: object) -> None:
    """Until then the client is not listened to, and its next call waits."""
    client = Client(SERVICE)
    assert exchange(client, call("a.b.Guess", parameters={"text": "?"}) + call("a.b.Echo")) == []
    assert client.question
    assert client.question.asks == "?"
    assert not client.is_listened_to
    client.settle(answer)
    assert json.loads(client.outgoing[:-1]) == replied
    client.took(len(client.outgoing))
    assert exchange(client) == [{"parameters": {"text": "nothing"}}]
    client.settle("once more")
    assert client.outgoing == b""


def test_a_question_without_a_wish_for_an_answer_is_asked_all_the_same() -> None:
    client = Client(SERVICE)
    exchange(client, call("a.b.Guess", parameters={"text": "?"}, oneway=True))
    assert client.question
    client.settle("yes")
    assert client.outgoing == b""
    assert exchange(client, call("a.b.Count", oneway=True, more=True), call("a.b.Echo")) == [
        {"parameters": {"text": "nothing"}}
    ]


def test_what_only_root_may_call_is_refused_to_others_whatever_they_send() -> None:
    """Before their parameters are looked at."""
    client = Client(SERVICE, user=1000)
    assert exchange(client, call("a.b.Order", parameters={"what": 1}), call("a.b.Echo")) == [
        error("PermissionDenied"),
        {"parameters": {"text": "nothing"}},
    ]


@pytest.mark.parametrize(
    "sent",
    [
        b"\0",
        b"{}\0",
        b"[]\0",
        b"null\0",
        b'"method"\0',
        b'{"method":1}\0',
        b'{"method":"a.b.Echo","parameters":[1]}\0',
        b'{"method":"a.b.Echo","more":1}\0',
        b'{"method":"a.b.Echo"\0',
        b"GET / HTTP/1.1\r\n\r\n\0",
        b"\xff\xfe\0",
        b"[" * 50_000 + b"\0",
        b'{"a":' * 10_000 + b"\0",
        b'{"method":"a.b.Echo","parameters":{"count":' + b"9" * 50_000 + b"}}\0",
        b"x" * (LONGEST + 1),
        b'{"method":"' + b"x" * LONGEST + b'"}\0',
    ],
)
def test_who_does_not_speak_varlink_is_let_go(sent: bytes) -> None:
    with pytest.raises(Broken):
        exchange(Client(SERVICE), sent)


def test_who_does_not_take_what_goes_on_is_let_go() -> None:
    client = Client(SERVICE)
    exchange(client, call("a.b.Watch", more=True))
    with pytest.raises(Broken):  # noqa: PT012
        for _ in range(10_000):
            client.go_on(continued({"text": "x" * 1000}))
    assert len(client.outgoing) < varlink.MOST_WAITING + 2000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    st.sampled_from(["a.b.Echo", "a.b.Watch", "a.b.Count", "a.b.Order", "org.varlink.service.GetInfo", "a.b.Nothing"])
    | st.text()
)
CALLS = st.fixed_dictionaries(
    {"method": NAMES}, optional={"parameters": JSON, "more": JSON, "oneway": JSON, "upgrade": JSON}
).map(lambda made: json.dumps(made).encode() + b"\0")
SENT = st.lists(st.binary(max_size=200) | CALLS | CALLS.map(lambda made: made[: len(made) // 2]), max_size=20)


@pytest.mark.long
@settings(max_examples=500, deadline=None)
@given(SENT)
def test_whatever_is_sent_is_answered_by_varlink_or_by_letting_go(chunks: list[bytes]) -> None:
    """About 10,000 messages: no error of Python's, no growth, and every answer is one object."""
    client = Client(SERVICE)
    with contextlib.suppress(Broken):
        for answer in exchange(client, *chunks):
            assert {"parameters"} <= answer.keys() <= {"parameters", "error", "continues"}
    assert len(client.outgoing) <= varlink.MOST_WAITING + LONGEST
