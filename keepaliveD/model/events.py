"""What happens: the events that the decider gets, one at a time.

A further source of events has its event here, its case in policy.decider, and its descriptor in daemon.process.
"""

from __future__ import annotations

from keepaliveD.model.actions import NOT_CARED_FOR, FoundSettings, Outcome, Queued
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.questions import Asker, Question
from keepaliveD.model.rules import Rules
from keepaliveD.model.sockets import SocketTable


@dataclass(frozen=True, slots=True)
class Start:
    """The daemon starts. `notes` are what this system cannot do or does differently, a line each."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """A signal asks for the end. `handing_over`: a successor takes the settings over at once."""

    handing_over: bool = False


@dataclass(frozen=True, slots=True)
class Reload:
    """A signal asks to follow the configuration as it is now."""


@dataclass(frozen=True, slots=True, eq=False)
class Died:
    """Connections have ended."""

    deaths: Deaths


@dataclass(frozen=True, slots=True)
class Asked:
    """A client of the control socket has asked a question, and waits for its Answer."""

    asker: Asker
    question: Question


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: what the decider has put off may be due."""


@dataclass(frozen=True, slots=True)
class Idle:
    """All actions are carried out."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of LoadConfiguration."""

    rules: Rules


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of OpenSession."""

    engine_description: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """What came of ScanSockets. `damaged`: what is wrong with records of armed sockets; None if they cannot be read."""

    table: SocketTable
    found: FoundSettings = NOT_CARED_FOR
    damaged: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class SettingsRead:
    """What came of ReadSettings."""

    found: FoundSettings


@dataclass(frozen=True, slots=True)
class BegunAtConnect:
    """What came of ArmAtConnect: what to report about it, and what went wrong with the program before, or ""."""

    report: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of any other action."""

    action: Queued
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """An action that has no outcome, because of this error."""

    action: Queued
    error: Exception


Consequence = Loaded | Opened | Scanned | SettingsRead | BegunAtConnect | Done | Failed  # what comes of an action
Event = Start | Stop | Reload | Died | Asked | Tick | Idle | Consequence
