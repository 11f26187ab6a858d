"""A worker process for keepalivectl: what hangs beside a daemon would hang a command as well."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from keepaliveD.cli.printing.fitting import tell
from keepaliveD.config import Config
from keepaliveD.daemon.worker.workers import Hang, Workers
from keepaliveD.model.rules import IPNetwork, Watching
from keepaliveD.platforms.base import Opener
from keepaliveD.platforms.clock import now
from keepaliveD.platforms.requests import Open, Result, Steps, scan, with_firewall
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import Judgement, judge, with_bare_presumed


class Asking:
    """Carries out steps by a worker."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def __call__(self, steps: Steps[Result]) -> Result:
        """Return what the steps come to. Raises what they raise."""
        try:
            request = next(steps)
            while True:
                self._workers.ask(request)
                while (reply := self._workers.wait(1.0)) is None:
                    pass
                request = steps.throw(reply.error) if reply.error else steps.send(reply.value)
        except StopIteration as end:
            result: Result = end.value
            return result


@contextlib.contextmanager
def in_worker(opener: Opener, watching: Watching) -> Iterator[Asking]:
    """Open a session in a worker, for as long as the block takes. Raises Refusal."""
    workers = Workers(opener, time.monotonic, _warn)
    try:
        asking = Asking(workers)
        asking(_open(watching))
        yield asking
    finally:
        workers.close()


def look(ask: Asking, config: Config, ignore: Sequence[IPNetwork]) -> Judgement:
    """Scan once, and judge the connections, with what this host's own firewall says of those near their cut."""
    table = ask(scan(now()))
    judgement = ask(with_firewall(judge(table, nothing_known(), config.paths, ignore), config.warn_before))
    return by_single_scan(judgement)


def by_single_scan(judgement: Judgement) -> Judgement:
    """Return the judgement with `bare` as presumed: no single scan sees a peer's keepalive probes."""
    return with_bare_presumed(judgement, judgement.forecast.now)


def _open(watching: Watching) -> Steps[None]:
    yield Open(watching)


def _warn(hang: Hang) -> None:
    from keepaliveD.log import entries

    tell("warning", entries.of_hang(hang.touched, hang.pause).message)
