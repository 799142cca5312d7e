# SPDX-License-Identifier: MIT
"""One variation step: `vary` is the loop, and it fits on this screen.

The model is asked, the tools that it calls are run, their results are its next message, until it
submits or a limit is reached. Everything is in the trajectory before it is used, so that a step
killed anywhere goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from agent.calling import CUT, LOST, Calls
from agent.conversation import THINKING, Conversation
from agent.failures import Action, Failure, ModelError
from agent.handoff import Handoff
from agent.model import Hear, Model
from agent.prompts import prompt
from agent.step import Ending, Result, Spend, Submission
from agent.streaming import Reply
from agent.tally import Over, Tally

MOST_REPAIRS = 3  # in a row
MOST_REFUSALS = 1
USABLE = ("tool_use", "end_turn", "stop_sequence", "max_tokens", "pause_turn")


@dataclass(slots=True, kw_only=True)
class Variation:
    """A step under way. `talk` is replaced by a fresh conversation when it has grown too long."""

    model: Model
    talk: Conversation
    calls: Calls
    handoff: Handoff
    tally: Tally
    spend: Spend
    hear: Hear  # a line of the trajectory, counted
    # Of a step that was killed: results by call, and what it had submitted.
    noted: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    submitted: Submission | None = None
    _more_tokens: int = 1
    _repairs: int = 0
    _refusals: int = 0
    _nudged: bool = False

    def vary(self) -> Submission:
        """The proposal. Raises Over, ModelError, Exhausted, KeyboardInterrupt."""
        if self.submitted is not None:
            return self.submitted
        self._finish_calls()
        while True:
            self.tally.check()
            self._make_room()
            reply = self._ask()
            if reply is None:
                continue
            answers, submission = self._answers(reply)
            if answers:
                self.talk.say([*answers, *self._reminder()])
                self._nudged = False
            elif reply.stop != "pause_turn":
                self._nudge(reply)
            if submission is not None:
                return replace(submission, author=submission.author or reply.model)

    def _ask(self) -> Reply | None:
        """A reply that has joined the conversation; None where there was none and it was mended."""
        settings = self.model.settings
        try:
            reply = self.model.ask(
                self.talk.prompt(),
                size=self.talk.size(),
                spend=self.spend,
                hear=partial(self.hear, talk=self.talk.number),
                max_tokens=settings.max_output_tokens * self._more_tokens,
            )
        except ModelError as error:
            self._mend(error)
            return None
        if reply.stop not in USABLE:
            self._unusable(reply)
            return None
        if not reply.content or reply.content[-1]["type"] in THINKING:
            self._empty(reply)
            return None
        self._repairs, self._more_tokens = 0, 1
        self.talk.hear(reply)
        return reply

    def _answers(self, reply: Reply) -> tuple[list[dict[str, Any]], Submission | None]:
        """Results of its calls, in order; a call that was cut off is told so and not run."""
        answers, submission = [], None
        for call in reply.calls:
            if reply.stop == "max_tokens" and call is reply.content[-1]:
                lost = Result(text=CUT, is_error=True)
                answers.append(self.calls.answer(call, lost, talk=self.talk.number))
                continue
            answer, result = self.calls.run(call, self.talk.number)
            answers.append(answer)
            submission = (None if result.is_error else result.submission) or submission
        return answers, submission

    def _nudge(self, reply: Reply) -> None:
        """It stopped without a proposal: once that is a slip, twice it is giving up."""
        if reply.stop == "max_tokens":
            self.talk.note("You reached the length limit of a reply. Go on, more briefly.")
        elif self._nudged:
            raise Over(Ending.ABANDONED, "it ended its turn twice without a proposal")
        else:
            self._nudged = True
            self.talk.note(prompt("nudge"))

    def _mend(self, error: ModelError) -> None:
        """What the table of failures says; beyond a few in a row, the step ends."""
        self._repairs += 1
        action = error.failure.action
        if action is Action.STOP or action is Action.RETRY or self._repairs > MOST_REPAIRS:
            raise error
        if action is Action.SHRINK:
            self.talk = self.handoff.by_summary(self.talk, str(error.failure))
        elif action is Action.FORGET:
            self.talk.forget_thinking()
        else:
            self.talk.note(f"Your last reply was lost: {error.failure.text}. Send it again.")

    def _unusable(self, reply: Reply) -> None:
        """A refusal, or a window that is full: on with a fresh conversation, once."""
        kind = "refused" if reply.stop == "refusal" else "context exceeded"
        text = reply.refusal or f"the reply ended with {reply.stop}"
        failure = Failure(
            kind=kind, action=Action.SHRINK, text=text, request_id=reply.request_id, billed=True
        )
        self._refusals += reply.stop == "refusal"
        if self._refusals > MOST_REFUSALS:
            raise ModelError(replace(failure, action=Action.STOP))
        self._mend(ModelError(failure))

    def _empty(self, reply: Reply) -> None:
        """Nothing that could be sent back: it was cut off while thinking, or said nothing."""
        self._more_tokens *= 2
        text = f"a reply without text or call ({reply.stop})"
        lost = Failure(kind="empty reply", action=Action.RESEND, text=text, billed=True)
        if reply.stop == "max_tokens":  # longer next time; a note would only add to it
            self._repairs += 1
            if self._repairs > MOST_REPAIRS:
                raise ModelError(lost)
            return
        self._mend(ModelError(lost))

    def _make_room(self) -> None:
        """Old results go at one mark of the window; at the next, a fresh conversation begins."""
        settings, window = self.model.settings, self.model.window_tokens()
        if self.talk.tokens() > settings.shed_at * window:
            self.talk.shed()
        if self.talk.grown and self.talk.tokens() > settings.handoff_at * window:
            self.talk = self.handoff.by_itself(self.talk)

    def _reminder(self) -> Sequence[dict[str, Any]]:
        every = self.model.settings.remind_every_turns
        if self.tally.turns % every:
            return ()
        text = self.tally.reminder(self.spend.left())
        return ({"type": "text", "text": text},)

    def _finish_calls(self) -> None:
        """After a kill: results that were noted are used, calls without one are told lost."""
        waiting = self.talk.unanswered()
        if waiting:
            self.talk.say([self.noted.get(call["id"]) or self._lost(call) for call in waiting])
        elif self.talk.ended:  # killed before it was answered
            self.talk.note(prompt("nudge"))

    def _lost(self, call: Mapping[str, Any]) -> dict[str, Any]:
        return self.calls.answer(call, Result(text=LOST, is_error=True), talk=self.talk.number)
