"""Varlink (varlink.org) without input and output: octets of a client go in, octets of answers come out.

A message is one JSON object and a zero octet. Everything that one client can make this program keep is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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


class Refused(Exception):
    """An answer that is an error: its name in the interface, and its parameters."""

    def __init__(self, name: str, **parameters: str) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = parameters


class Broken(Exception):
    """What a client has sent is no Varlink, or it does not take its answers: nothing can be said to it any more."""


def invalid(parameter: str) -> Refused:
    """Return the error for a parameter that is missing or wrong."""
    return Refused(f"{STANDARD}.InvalidParameter", parameter=parameter)


@dataclass(frozen=True, slots=True)
class Method:
    """A method: the parameters that it takes, with their types, and what answers. All of them may be left out.

    `streams`: it answers again and again, to a client that asks for more; None is no answer yet.
    """

    answer: Callable[[Parameters], Parameters | None]
    takes: Mapping[str, type] | None = None
    streams: bool = False


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

    def __init__(self, service: Service) -> None:
        self._service = service
        self._methods = {**service.standard(), **service.methods}
        self._received = bytearray()
        self.outgoing = bytearray()
        self.streaming = ""  # the method that goes on answering

    @property
    def is_listened_to(self) -> bool:
        """Return whether to read more of it: not before it has its answers to all that it has sent."""
        return not (self.outgoing or self.is_waiting)

    @property
    def is_waiting(self) -> bool:
        """Return whether a whole message can be answered now."""
        return not (self.outgoing or self.streaming) and END in self._received

    def receive(self, octets: bytes) -> None:
        """Take what has arrived. Raises Broken."""
        self._received += octets
        if len(self._received) > LONGEST and (self.streaming or END not in self._received):
            raise Broken("a message is too long")

    def answer(self) -> None:
        """Answer the next message. Raises Broken."""
        message, _, rest = self._received.partition(END)
        self._received = rest
        if len(message) > LONGEST:
            raise Broken("a message is too long")
        call = _parsed(bytes(message))
        self._reply(call, self._answered(call))

    def go_on(self, parameters: Parameters) -> None:
        """Send one more answer of the method that goes on. Raises Broken."""
        self._send({"parameters": parameters, "continues": True})

    def took(self, count: int) -> None:
        """Forget so many octets of the answers: the client has taken them."""
        del self.outgoing[:count]

    def _answered(self, call: Parameters) -> dict[str, Any] | None:
        try:
            method = self._find(call["method"])
            if method.streams and not call.get("more", False):
                raise Refused(f"{STANDARD}.ExpectedMore")
            parameters = method.answer(_checked(call.get("parameters") or {}, method.takes or {}))
        except Refused as refused:
            return {"error": refused.name, "parameters": refused.parameters}
        if not method.streams:
            return {"parameters": parameters}
        self.streaming = call["method"]
        return None if parameters is None else {"parameters": parameters, "continues": True}

    def _find(self, name: str) -> Method:
        found = METHOD.fullmatch(name)
        if found is None or found[1] not in (STANDARD, *self._service.descriptions):
            raise Refused(f"{STANDARD}.InterfaceNotFound", interface=name.rpartition(".")[0])
        if (method := self._methods.get(name)) is None:
            raise Refused(f"{STANDARD}.MethodNotFound", method=name)
        return method

    def _reply(self, call: Parameters, reply: Mapping[str, Any] | None) -> None:
        if call.get("oneway", False):
            self.streaming = ""
        elif reply is not None:
            self._send(reply)

    def _send(self, reply: Mapping[str, Any]) -> None:
        self.outgoing += json.dumps(reply, separators=(",", ":"), allow_nan=False).encode() + END
        if len(self.outgoing) > MOST_WAITING:
            raise Broken("answers are not taken")


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
