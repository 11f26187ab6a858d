"""The methods of the control socket that the decider answers: Explain, Arm, Disarm, Measuring, Record, Reload, ...

A method makes a question of its parameters (model/questions.py), and a reply of what came of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from keepaliveD.config.units import with_suffix
from keepaliveD.daemon.control.selecting import LONGEST, MOST, short
from keepaliveD.daemon.control.varlink import Method, Parameters, Question, Refused, invalid
from keepaliveD.log import entries
from keepaliveD.model.actions import Outcome, SetSystemKeepalive
from keepaliveD.model.errors import Exit, NoInput, Refusal
from keepaliveD.model.explained import Explained
from keepaliveD.model.keepalive import MAX_IDLE, MAX_PROBES, Own, SocketKeepalive
from keepaliveD.model.plain import plain
from keepaliveD.model.questions import (
    ArmThis,
    DisarmThis,
    ExplainThese,
    MeasuringThese,
    RecordNow,
    ReloadNow,
    RestoreThese,
    ScanNow,
)
from keepaliveD.model.results import Armed, ArmingResult, Mark
from keepaliveD.places import INTERFACE
from keepaliveD.policy.answers.questions import Explanation

MAX_COOKIE = 2**64 - 1
MAX_PORT = 65535
MAPPED = 0xFFFF << 32  # an IPv4 address as one of IPv6: ::ffff:0:0/96
MOST_VALUES = 1024  # of a parameter of Explain: the sockets of a process
UNREADABLE = "cannot be read here"
NOT_ARMED = "not armed"  # there is nothing to disarm
TIMES = {"idle": MAX_IDLE, "interval": MAX_IDLE, "probes": MAX_PROBES}


def _explain(parameters: Parameters) -> Question:
    numbers = {name: _numbers(parameters, name) for name in ("cookies", "inodes")}
    units = map(with_suffix, short("units", _values(parameters, "units", str, MOST)))
    question = ExplainThese(**numbers, units=tuple(units), ends=tuple(map(_end, _values(parameters, "ends", dict))))
    first = next(iter(question.cookies), 0)
    return Question(question, _answering(first, explanation))


def _numbers(parameters: Parameters, name: str) -> tuple[int, ...]:
    """Return cookies or inodes. Raises Refused."""
    numbers: tuple[int, ...] = _values(parameters, name, int)
    if not all(0 <= number <= MAX_COOKIE for number in numbers):
        raise invalid(name)
    return numbers


def _values(parameters: Parameters, name: str, kind: type, most: int = MOST_VALUES) -> tuple[Any, ...]:
    values = parameters.get(name, [])
    if len(values) > most or not all(type(value) is kind and len(str(value)) <= LONGEST for value in values):
        raise invalid(name)
    return tuple(values)


def _end(given: dict[str, Any]) -> tuple[int, int]:
    """Return an end as columns have it. Raises Refused."""
    try:
        address = ipaddress.ip_address(given["address"])
        port = given["port"]
    except (KeyError, ValueError):
        raise invalid("ends") from None
    if type(given["address"]) is not str or type(port) is not int or not 0 < port <= MAX_PORT:
        raise invalid("ends")
    return int(address) | (MAPPED if address.version == 4 else 0), port


def _arm(parameters: Parameters) -> Question:
    cookie = _cookie(parameters)
    for name, most in TIMES.items():
        if not 1 <= parameters.get(name, 1) <= most:
            raise invalid(name)
    times = (parameters.get(name) for name in TIMES)
    return Question(ArmThis(cookie, *times), _answering(cookie, became))


def _disarm(parameters: Parameters) -> Question:
    cookie = _cookie(parameters)
    return Question(DisarmThis(cookie), _answering(cookie, became))


def _measuring(parameters: Parameters) -> Question:
    return Question(MeasuringThese(_numbers(parameters, "cookies")), _answering(0, lambda _: {}))


def _record(_: Parameters) -> Question:
    return Question(RecordNow(), _answering(0, lambda _: {}))


def _reload(_: Parameters) -> Question:
    return Question(ReloadNow(), _answering(0, lambda _: {}))


def _scan(_: Parameters) -> Question:
    return Question(ScanNow(), _answering(0, lambda _: {}))


def _restore(parameters: Parameters) -> Question:
    names = parameters.get("settings")
    if names is not None and not all(isinstance(name, str) for name in names):
        raise invalid("settings")
    return Question(RestoreThese(None if names is None else frozenset(names)), _answering(0, restored))


METHODS = {
    f"{INTERFACE}.Explain": Method(_explain, dict.fromkeys(("cookies", "inodes", "units", "ends"), list)),
    f"{INTERFACE}.Arm": Method(_arm, {"cookie": int, **dict.fromkeys(TIMES, int)}, root_only=True),
    f"{INTERFACE}.Disarm": Method(_disarm, {"cookie": int}, root_only=True),
    f"{INTERFACE}.Measuring": Method(_measuring, {"cookies": list}, root_only=True),
    f"{INTERFACE}.Record": Method(_record, root_only=True),
    f"{INTERFACE}.Reload": Method(_reload, root_only=True),
    f"{INTERFACE}.Scan": Method(_scan, root_only=True),
    f"{INTERFACE}.Restore": Method(_restore, {"settings": list}, root_only=True),
}


def _cookie(parameters: Parameters) -> int:
    cookie: int = parameters.get("cookie", -1)
    if not 0 <= cookie <= MAX_COOKIE:
        raise invalid("cookie")
    return cookie


def _answering(cookie: int, words: Callable[[Any], Parameters]) -> Callable[[Any], Parameters]:
    """Return what makes a reply of an answer, or raises Refused where the answer is a refusal."""

    def reply(answer: object) -> Parameters:
        if isinstance(answer, NoInput):
            raise Refused(f"{INTERFACE}.NoSuchConnection", cookie=cookie)
        if isinstance(answer, Refusal):
            raise Refused(f"{INTERFACE}.Failed", reason=str(answer))
        return words(answer)

    return reply


def became(outcome: Outcome) -> dict[str, object]:
    """Return the answer to Arm and Disarm."""
    arming = outcome.armings[-1] if outcome.armings else None
    said = "; ".join(entry.message for entry in entries.of(outcome))
    if arming is None:
        return {"result": NOT_ARMED, "before": None, "after": None, "message": said}
    return {
        "result": arming.result.value,
        "before": keepalive(arming.before),
        "after": keepalive(arming.after),
        "message": said,
    }


def restored(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return the answer to Restore."""
    said = [entry.message for outcome in outcomes if not outcome.refused for entry in entries.of(outcome)]
    refused = next((outcome.refused for outcome in outcomes if outcome.refused), None)
    done = [
        name
        for one in outcomes
        if isinstance(one.action, SetSystemKeepalive) and not one.refused
        for name in one.action.values
    ]
    status = refused.status if refused else Exit.OK
    return {"restored": done, "messages": said, "refused": str(refused or ""), "status": int(status)}


def keepalive(one: SocketKeepalive | None) -> dict[str, object] | None:
    """Return the keepalive of a socket as it is answered."""
    return {"on": one.on, **one.times._asdict()} if one else None


def explanation(given: Explanation) -> dict[str, object]:
    """Return the answer to Explain."""
    return {"explained": [explained(its) for its in given.explained], "more": given.more}


def explained(its: Explained) -> dict[str, object]:
    """Return one connection as Explain answers it."""
    found, decision, armed = its.found, its.decision, its.armed
    return {
        "connection": plain(its.connection),
        "stands": keepalive(found.stands) if found else None,
        "unread": "" if found else its.hindrance.value if its.hindrance else UNREADABLE,
        "inherited": _names(found.inherited) if found else [],
        "user_timeout": found.user_timeout / 1000 if found and found.user_timeout else None,
        "system": dict(zip(TIMES, found.system, strict=True)) if found and found.system else None,
        "armed": _armed(armed),
        "recorded": _armed(its.entry),
        "left_alone": its.entry is Mark.LEFT_ALONE,
        "rule": its.rule.name,
        "action": its.rule.action.value,
        "times": its.times and its.times._asdict(),
        "decision": _decision(decision),
        "sets": keepalive(decision.after) if isinstance(decision, Armed) else None,
        "remedy": [{"key": key, "value": value} for key, value in its.remedy.settings] if its.remedy else [],
        "hopeless": its.hopeless.value if its.hopeless else "",
        "left_until_reload": its.left_until_reload,
    }


def _armed(entry: object) -> dict[str, object] | None:
    if not isinstance(entry, Armed):
        return None
    inherited = None if entry.inherited & Own.UNTOLD else _names(entry.inherited)
    return {"before": keepalive(entry.before), "after": keepalive(entry.after), "inherited": inherited}


OWN = {"idle": Own.IDLE, "interval": Own.INTERVAL, "probes": Own.PROBES}


def _names(times: Own) -> list[str]:
    return [name for name, own in OWN.items() if times & own]


def _decision(decision: Armed | ArmingResult | None) -> str:
    if decision is None:
        return ""
    return ArmingResult.WOULD_BE_ARMED.value if isinstance(decision, Armed) else decision.value
