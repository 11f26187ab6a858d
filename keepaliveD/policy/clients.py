"""Decide about clients of the control socket: what follows from what each asks, who waits, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keepaliveD.model.actions import Action, Answer, LookInto, Outcome, Queued, RestoreSettings
from keepaliveD.model.errors import Refusal, unexpected
from keepaliveD.model.events import Asked
from keepaliveD.model.questions import Asker, MeasuringThese, ReloadNow, RestoreThese, ScanNow
from keepaliveD.model.rules import Rules
from keepaliveD.policy.answers import questions
from keepaliveD.policy.scans import ScanDecider
from keepaliveD.policy.verdicts import firewall
from keepaliveD.policy.verdicts.judge import Judgement, judged_anew


class Waiters:
    """Those who wait for a thing that is done once for all of them, such as a scan.

    What had begun before they asked is not what they wait for.
    """

    def __init__(self) -> None:
        self._asked: list[Asker] = []
        self._await: list[Asker] = []

    def add(self, asker: Asker) -> None:
        """Let one more wait for what begins next."""
        self._asked.append(asker)

    def begin(self) -> None:
        """Take note that it begins."""
        self._await += self._asked
        self._asked = []

    def end(self, problem: Refusal | None) -> list[Action]:
        """Return the answers to those who waited for what ends now: what it failed for, None if it did not."""
        askers, self._await = self._await, []
        return [Answer(asker, problem) for asker in askers]


class Clients:
    """Those who ask: each is answered once, when what was asked for is done or has failed."""

    def __init__(self, scans: ScanDecider) -> None:
        self.await_reload = Waiters()
        self.await_scan = Waiters()
        self._scans = scans

    def follow(self, asked: Asked, judgement: Judgement, rules: Rules, units: Mapping[int, str]) -> list[Action]:
        """Return what to do for who asks; nothing where he waits for a scan or a reload, which the decider begins."""
        asker, question = asked.asker, asked.question
        match question:
            case ReloadNow():
                self.await_reload.add(asker)
                return []
            case ScanNow():
                self.await_scan.add(asker)
                return []
            case MeasuringThese():
                return [Answer(asker, None)]
            case RestoreThese(settings):
                cared_for = self._scans.leave_settings(settings)  # also what a scan finds that goes on
                return [RestoreSettings(settings, asker, cared_for)]
        try:
            action = questions.follow(asker, question, judgement, rules, units)
            looked_into = action.connections if isinstance(action, LookInto) else ()
            return [*self._scans.consult_firewall(judgement, looked_into), action]
        except Exception as error:  # a defect costs an answer, and not the daemon
            return [Answer(asker, unexpected(error))]

    def answer_done(
        self, action: Queued, outcomes: Sequence[Outcome], judgement: Judgement, rules: Rules, now: float
    ) -> list[Action]:
        """Return the answers to who has asked for what was done."""
        if isinstance(action, RestoreSettings):
            return [self._answer_restore(action, action.asker, tuple(outcomes))] if action.asker else []
        if isinstance(action, LookInto):
            judgement = judged_anew(judgement, firewall.with_answers(judgement.activity, self._scans.memory))
        return [answer for one in outcomes if (answer := questions.answer(one, judgement, rules, now))]

    def answer_failed(self, action: Queued, error: Exception) -> list[Action]:
        """Return the answer to who has asked for what failed, if anybody has."""
        if not isinstance(action, questions.Asking | RestoreSettings) or action.asker is None:
            return []
        if isinstance(action, RestoreSettings):
            self._scans.care_for_settings(action.cared_for)
        return [Answer(action.asker, unexpected(error))]

    def _answer_restore(self, action: RestoreSettings, asker: Asker, outcomes: tuple[Outcome, ...]) -> Answer:
        """Answer what came of the settings that were to be restored on demand; where nothing did, care again.

        They are left once more: a reload may have begun since, or somebody else have been refused the same.
        """
        refusal = next((one.refused for one in outcomes if one.action is action), None)
        if refusal:
            self._scans.care_for_settings(action.cared_for)
        else:
            self._scans.leave_settings(action.only)
        return Answer(asker, refusal or outcomes)
