"""Log entries of advice: an idle timeout that the silences of connections contradict."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.log.entries.entry import NOTICE, Entry, Value
from keepaliveD.model.duration import FOREVER, exact, span
from keepaliveD.model.findings import Finding
from keepaliveD.model.text import printable, quoted

DEFAULT = "default"  # name of the path where no [[path]] matches


def of_evidence(findings: tuple[Finding, ...]) -> Iterator[Entry]:
    """Yield an entry for each path."""
    yield from (_advice(one) for one in findings)


def _advice(one: Finding) -> Entry:
    path = one.path
    wrong = "long" if one.is_shorter else "short"
    between = f"at least {span(one.at_least)}"
    if one.at_most < FOREVER:
        between = f"between {span(one.at_least)} and {span(one.at_most)}"
    fields: dict[str, Value] = {
        "KEEPALIVE_PATH": path.name,
        "KEEPALIVE_TIMEOUT_SEC": round(path.timeout, 1),
        "KEEPALIVE_TIMEOUT_ORIGIN": str(path.origin),
        "KEEPALIVE_TIMEOUT_SOURCE": path.origin.source.value,
        "KEEPALIVE_AT_LEAST_SEC": round(one.at_least, 1),
        "KEEPALIVE_COUNT": one.deaths if one.is_shorter else one.survived,
    }
    if one.at_most < FOREVER:
        fields["KEEPALIVE_AT_MOST_SEC"] = round(one.at_most, 1)
    if one.route:
        fields["KEEPALIVE_INTERFACE"] = one.route.interface
        fields["KEEPALIVE_NEXT_HOP"] = one.route.next_hop
    subject = f"path {quoted(path.name)}" + (f" by {one.route}" if one.route else "")
    return Entry(
        "advice",
        NOTICE,
        f"{subject}: idle timeout {span(path.timeout)} ({path.origin}) is probably too {wrong}: "
        f"{one.origin.detail}, so it is presumably {between}; {_remedy(one)}{_until_then(one)}",
        fields,
    )


def _until_then(one: Finding) -> str:
    if not one.shortens:
        return ""
    return f"; until then verdicts follow it, and arming keeps to {span(one.path.timeout)}"


def _remedy(one: Finding) -> str:
    timeout = exact(one.timeout)
    if one.route:
        selected = f'interface = "{printable(one.route.interface)}", or with the networks of these peers'
        return f'write a [[path]] with {selected}, and timeout = "{timeout}"'
    if one.path.name == DEFAULT:  # other peers may be behind a path that forgets sooner: it is never to be lengthened
        instead = f', or watch.default_timeout = "{timeout}"' if one.is_shorter else ""
        return f'write a [[path]] for these peers with timeout = "{timeout}"{instead}'
    return f'write timeout = "{timeout}" into its [[path]]'
