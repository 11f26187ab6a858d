"""One log entry: a line for people, fields for machines, and an id for its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from keepaliveD.log.ids import MESSAGE_IDS
from keepaliveD.model.dataclass import dataclass

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog(3)

HANDFUL = 5  # connections that one scan reports one by one; more are reported in summaries

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry. `message` is one printable line; `fields` have journald's kind of names.

    `below` are printable lines that follow the message, such as configuration to paste.
    """

    event: str
    priority: int
    message: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    below: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The message and the lines that follow it."""
        return "\n".join((self.message, *self.below))

    @property
    def message_id(self) -> str:
        """What `journalctl MESSAGE_ID=` selects."""
        return MESSAGE_IDS[self.event]
