# SPDX-License-Identifier: MIT
"""From a conversation that grew too long to a fresh one: facts, what was tried, the diff."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from agent.budget import Exhausted
from agent.conversation import Conversation
from agent.failures import ModelError
from agent.model import THINKING_TOKENS, Model
from agent.prompts import prompt
from agent.step import Spend
from agent.trajectory import Trajectory

MOST_TOKENS = 6_000
MOST_DIGEST = 120_000  # characters of the conversation for the summary model
MOST_EXCERPT = 6_000  # characters of it where no model helps
MOST_DIFF = 20_000


class Handoff:
    """Makes the next conversation. `changes`: the step's diff so far."""

    def __init__(
        self,
        model: Model,
        log: Trajectory,
        *,
        spend: Spend,
        hear: Callable[..., None],
        changes: Callable[[], str],
    ) -> None:
        self._model, self._log = model, log
        self._spend, self._hear, self._changes = spend, hear, changes

    def by_itself(self, talk: Conversation) -> Conversation:
        """Written by the model that knows, at the price of a cached prompt."""
        try:
            text = self.asked(talk, prompt("handoff"))
        except ModelError as error:
            return self.by_summary(talk, str(error))
        return self._next(talk, text)

    def by_summary(self, talk: Conversation, why: str) -> Conversation:
        """Written by the summary model, where the model itself cannot: refused, or too long."""
        try:
            text = self._model.complete(
                prompt("handoff"),
                talk.rendered(MOST_DIGEST),
                spend=self._spend,
                model=self._model.settings.summary_model,
                max_tokens=MOST_TOKENS,
                hear=partial(self._hear, talk=0),
            )
        except ModelError:
            text = f"(The end of the conversation so far.)\n{talk.rendered(MOST_EXCERPT)}"
        return self._next(talk, f"(Begun afresh: {why}.)\n{text}")

    def note(self, talk: Conversation, reason: str) -> str:
        """What the model leaves to the next step; its last words where it cannot be asked."""
        if talk.unanswered() or talk.ended:
            return talk.said()
        try:
            return self.asked(talk, prompt("leaving", reason=reason))
        except (ModelError, Exhausted):
            return talk.said()

    def asked(self, talk: Conversation, question: str) -> str:
        """What the model says to a last question. Raises ModelError, Exhausted."""
        talk.note(question)
        reply = self._model.ask(
            talk.prompt(),
            size=talk.size(),
            spend=self._spend,
            hear=partial(self._hear, talk=talk.number),
            max_tokens=MOST_TOKENS + THINKING_TOKENS,
        )
        return reply.text or talk.rendered(MOST_EXCERPT)

    def _next(self, talk: Conversation, text: str) -> Conversation:
        diff = self._changes()
        cut = diff if len(diff) <= MOST_DIFF else f"{diff[:MOST_DIFF]}\n… (cut; read the files)"
        taken = prompt("taken_over", handoff=text, diff=cut or "(no change so far)")
        self._hear("handoff", talk=talk.number, text=taken)
        parts: dict[str, Any] = {"system": talk.system, "tools": talk.tools}
        return Conversation(
            self._log, number=talk.number + 1, **parts, brief=[talk.brief[0], taken]
        )
