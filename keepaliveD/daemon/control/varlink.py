"""Varlink (varlink.org) without input and output: octets of a client go in, octets of answers come out.

A message is one JSON object and a zero octet. Everything that one client can make this program keep is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

from keepaliveD.model.dataclass import dataclass

LONGEST = 1 << 16  # octets of a message
MOST_WAITING = 1 << 20  # octets of answers that a client has not taken: a slower one is let go
END = b"\0"
STANDARD = "org.varlink.service"
METHOD = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)\.([A-Z][A-Za-z0-9]*)")

STANDARD_DESCRIPTION = """\
# The interface that every Varlink service has
interface org.varlink.service

# Tell what this service is, and which interfaces it has
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# Return the description of an interface
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""

Parameters = Mapping[str, Any]
Replies = Generator[
    Parameters | None, None, Parameters
]  # the last reply is returned; None: none yet, others come first
ROOT = 0  # a user


class Refused(Exception):
    """An answer that is an error: its name in the interface, and its parameters."""

    def __init__(self, name: str, **parameters: str | int) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = parameters


class Broken(Exception):
    """What a client has sent is no Varlink, or it does not take its answers: nothing can be said to it any more."""


class Question(NamedTuple):
    """What somebody else answers, later: what is asked, and how his answer becomes the reply, which may be Refused."""

    asks: Any
    reply: Callable[[Any], Parameters]


def invalid(parameter: str) -> Refused:
    """Return the error for a parameter that is missing or wrong."""
    return Refused(f"{STANDARD}.InvalidParameter", parameter=parameter)


@dataclass(frozen=True, slots=True)
class Method:
    """A method: the parameters that it takes, with their types, and what answers. All of them may be left out.

    It answers once; or by one reply after the other, each of which is made when the client has taken the one before;
    or by a question to somebody else; or, with None, whenever there is something to say.
    `streams`: it answers again and again, to a client that asks for more. `root_only`: it answers nobody else.
    """

    answer: Callable[[Parameters], Parameters | Replies | Question | None]
    takes: Mapping[str, type] | None = None
    streams: bool = False
    root_only: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """What a server offers: methods by their full names, and the descriptions of their interfaces."""

    vendor: str
    product: str
    version: str
    url: str
    descriptions: Mapping[str, str]
    methods: Mapping[str, Method]

    def standard(self) -> dict[str, Method]:
        """Return the methods of org.varlink.service."""
        return {
            f"{STANDARD}.GetInfo": Method(self._info),
            f"{STANDARD}.GetInterfaceDescription": Method(self._describe, {"interface": str}),
        }

    def _info(self, _: Parameters) -> Parameters:
        interfaces = [STANDARD, *self.descriptions]
        return {
            "vendor": self.vendor,
            "product": self.product,
            "version": self.version,
            "url": self.url,
            "interfaces": interfaces,
        }

    def _describe(self, parameters: Parameters) -> Parameters:
        if (name := parameters.get("interface")) is None:
            raise invalid("interface")
        description = STANDARD_DESCRIPTION if name == STANDARD else self.descriptions.get(name)
        if description is None:
            raise Refused(f"{STANDARD}.InterfaceNotFound", interface=name)
        return {"description": description}


class Client:
    """One client: what it has sent and not been answered, and what it has not taken yet."""

    def __init__(self, service: Service, user: int = ROOT) -> None:
        self._service = service
        self._user = user
        self._methods = {**service.standard(), **service.methods}
        self._received = bytearray()
        self._wants_no_answer = False  # to the call that is being answered
        self._replies: Replies | None = None  # that are still to come
        self.outgoing = bytearray()
        self.streaming = ""  # the method that goes on answering
        self.question: Question | None = None  # that somebody else answers

    @property
    def wants_answer(self) -> bool:
        """Return whether it has not said that it wants no answer to the call that is being answered."""
        return not self._wants_no_answer

    @property
    def is_listened_to(self) -> bool:
        """Return whether to read more of it: not before it has its answers to all that it has sent."""
        return not (self.outgoing or self.question or self.is_waiting)

    @property
    def is_waiting(self) -> bool:
        """Return whether there is something to answer now."""
        if self.outgoing or self.streaming or self.question:
            return False
        return self._replies is not None or END in self._received

    @property
    def goes_on(self) -> bool:
        """Return whether further replies to a call that was answered before are still to come."""
        return self._replies is not None

    def receive(self, octets: bytes) -> None:
        """Take what has arrived. Raises Broken."""
        self._received += octets
        if len(self._received) > LONGEST and (self.streaming or END not in self._received):
            raise Broken("a message is too long")

    def answer(self) -> None:
        """Answer the next message, or make the next reply to the one before. Raises Broken."""
        if self._replies is not None:
            self._continue(self._replies)
            return
        message, _, rest = self._received.partition(END)
        self._received = rest
        if len(message) > LONGEST:
            raise Broken("a message is too long")
        call = _parsed(bytes(message))
        self._wants_no_answer = bool(call.get("oneway", False))
        try:
            self._take(call)
        except Refused as refused:
            self._reply(_error(refused))

    def settle(self, answer: Any) -> None:
        """Reply what somebody else has answered to the question. Raises Broken."""
        question, self.question = self.question, None
        if question is not None:
            try:
                self._reply({"parameters": question.reply(answer)})
            except Refused as refused:
                self._reply(_error(refused))

    def go_on(self, reply: bytes) -> None:
        """Send one more reply of the method that goes on (`continued`). Raises Broken."""
        self.outgoing += reply
        if len(self.outgoing) > MOST_WAITING:
            raise Broken("answers are not taken")

    def took(self, count: int) -> None:
        """Forget so many octets of the answers: the client has taken them."""
        del self.outgoing[:count]

    def _take(self, call: Parameters) -> None:
        method = self._find(call["method"])
        if method.root_only and self._user != ROOT:
            raise Refused(f"{STANDARD}.PermissionDenied")
        if method.streams and not call.get("more", False):
            raise Refused(f"{STANDARD}.ExpectedMore")
        answer = method.answer(_checked(call.get("parameters") or {}, method.takes or {}))
        match answer:
            case Question():
                self.question = answer
            case Generator():
                self._replies = None if self._wants_no_answer else answer
            case None:
                self.streaming = "" if self._wants_no_answer else call["method"]
            case _:
                self._reply({"parameters": answer})

    def _continue(self, replies: Replies) -> None:
        try:
            reply = next(replies)
        except StopIteration as end:
            self._replies = None
            self._reply({"parameters": end.value})
        except Refused as refused:
            self._replies = None
            self._reply(_error(refused))
        else:
            if reply is not None:
                self.go_on(continued(reply))

    def _find(self, name: str) -> Method:
        found = METHOD.fullmatch(name)
        if found is None or found[1] not in (STANDARD, *self._service.descriptions):
            raise Refused(f"{STANDARD}.InterfaceNotFound", interface=name.rpartition(".")[0])
        if (method := self._methods.get(name)) is None:
            raise Refused(f"{STANDARD}.MethodNotFound", method=name)
        return method

    def _reply(self, reply: Mapping[str, Any]) -> None:
        if not self._wants_no_answer:
            self.go_on(_message(reply))


def continued(parameters: Parameters) -> bytes:
    """Return a reply after which others follow."""
    return _message({"parameters": parameters, "continues": True})


def _message(reply: Mapping[str, Any]) -> bytes:
    return json.dumps(reply, separators=(",", ":"), allow_nan=False).encode() + END


def _error(refused: Refused) -> dict[str, Any]:
    return {"error": refused.name, "parameters": refused.parameters}


def _parsed(message: bytes) -> dict[str, Any]:
    """Return a call. Raises Broken where it is none: a client that does not speak Varlink is not answered."""
    try:
        call = json.loads(message.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Broken("not JSON") from error
    if not isinstance(call, dict) or not isinstance(call.get("method"), str):
        raise Broken("not a call")
    if not isinstance(call.get("parameters") or {}, dict):
        raise Broken("parameters are no object")
    if not all(isinstance(call.get(flag) or False, bool) for flag in ("more", "oneway", "upgrade")):
        raise Broken("a flag is no truth value")
    return call


def _checked(parameters: Parameters, takes: Mapping[str, type]) -> Parameters:
    """Return the parameters; null is the same as none. Raises Refused for one that is not known, or of a wrong type."""
    given = {name: value for name, value in parameters.items() if value is not None}
    for name, value in given.items():
        wanted = takes.get(name)
        if wanted is None or not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise invalid(name)
    return given
