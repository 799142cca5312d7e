# SPDX-License-Identifier: MIT
"""The `claude` operator: the variation loop on the Messages API.

A step's trajectory is its state. What is there is gone on with: a step that was killed, interrupted
or stopped by a limit or a fault; one that had come to its end has the same end again.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent import prompts
from agent.budget import Exhausted
from agent.calling import Calls, block, declared
from agent.config import Settings
from agent.conversation import Conversation
from agent.failures import ModelError
from agent.handoff import Handoff
from agent.lines import Line
from agent.model import Model
from agent.prices import load_prices
from agent.step import Ending, Outcome, Step, Submission
from agent.tally import Over, Tally
from agent.trajectory import Trajectory, events
from agent.variation import Variation

NUMBERED = ("request", "response", "failure")
FINAL = (Ending.SUBMITTED, Ending.ABANDONED)
MOST_NOTE = 1_000  # as much as a note of the memory holds
DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--")
NEW = ("ls-files", "--others", "--exclude-standard", "--")


class Claude:
    """`agent.step.Operator`."""

    name = "claude"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model: Model | None = None
        self._listed: Mapping[str, Any] = {}

    def preflight(self) -> None:
        """Prices, key and models are there. Raises ConfigurationError with the fix."""
        self._listed = self.model.preflight()

    @property
    def model(self) -> Model:
        """The Messages API with these settings; also the supervisor's."""
        if self._model is None:
            override = Path(self._settings.prices) if self._settings.prices else None
            self._model = Model(self._settings, load_prices(override))
        return self._model

    def vary(self, step: Step) -> Outcome:
        """One step, or the rest of one."""
        past = list(events(step.directory))
        if (ended := _ended(past)) is not None:
            return ended
        log = Trajectory(step.directory)
        try:
            return self._vary(step, log, past)
        finally:
            log.close()

    def _vary(self, step: Step, log: Trajectory, past: Sequence[Line]) -> Outcome:
        tally = Tally(step.limits)
        for line in past:
            tally.take(**line)

        def hear(event: str, **about: Any) -> None:
            tally.take(event, **about)
            log.add(event, **about, **({"number": tally.requests} if event in NUMBERED else {}))

        talk = Conversation.restored(log, past)
        if talk is None:
            log.add("manifest", **self._manifest(step))
            talk = self._conversation(step, log)
        handoff = Handoff(
            self.model, log, spend=step.spend, hear=hear, changes=lambda: _changes(step)
        )
        variation = Variation(
            model=self.model,
            talk=talk,
            calls=Calls(step.tools, hear),
            handoff=handoff,
            tally=tally,
            spend=step.spend,
            hear=hear,
            noted={line["id"]: _noted(line) for line in past if line["event"] == "tool"},
            submitted=_submitted(past),
        )
        outcome = _performed(variation)
        told = asdict(outcome)
        hear("ending", turns=tally.turns, **{**told, "ending": str(outcome.ending)})
        return outcome

    def _conversation(self, step: Step, log: Trajectory) -> Conversation:
        settings = self._settings
        system = prompts.prompt(
            "rules",
            device=settings.device or "(Not described. `inspect` and `score` tell.)",
            knowledge=settings.knowledge_index or "(No index.)",
        )
        tools = declared(step.tools)
        return Conversation(log, number=1, system=system, tools=tools, brief=[step.brief])

    def _manifest(self, step: Step) -> dict[str, Any]:
        """What one needs to know to ask the same again."""
        settings, prices = self._settings, self.model.prices
        return {
            "run": step.run,
            "step": step.number,
            "kernel": step.kernel,
            "target": step.target,
            "seed": step.seed,
            "operator": self.name,
            "sdk": f"anthropic {self.model.version}",
            "models": dict(self._listed),
            "settings": {k: v for k, v in asdict(settings).items() if k not in TEXTS},
            "prompts": prompts.digest(),
            "tools": _digest(declared(step.tools)),
            "knowledge": _digest(settings.knowledge_index),
            "prices": {"as_of": prices.as_of, "source": prices.source, "digest": prices.digest},
        }


TEXTS = ("device", "knowledge_index")


def create(settings: Settings) -> Claude:
    """The operator; nothing is asked of anyone yet."""
    return Claude(settings)


def _performed(variation: Variation) -> Outcome:
    """The loop's ways out as an outcome. An interruption ends the step for now."""
    submission: Submission | None = None
    note = ""
    try:
        submission = variation.vary()
        ending, reason = Ending.SUBMITTED, ""
    except Over as error:
        ending, reason = error.ending, str(error)
        note = _left_behind(variation, reason)
    except Exhausted as error:
        ending, reason = Ending.LIMIT, str(error)
    except ModelError as error:
        ending, reason = Ending.FAILED, str(error)
    except KeyboardInterrupt:
        ending, reason = Ending.INTERRUPTED, "interrupted"
    return Outcome(
        ending=ending,
        reason=reason,
        submission=submission,
        attempts=variation.tally.attempts,
        usage=variation.tally.usage(),
        note=note,
    )


def _left_behind(variation: Variation, reason: str) -> str:
    """A note for the next step, which goes into the memory where the step has one."""
    note = variation.handoff.note(variation.talk, reason).strip()[:MOST_NOTE]
    if note and variation.calls.has("memory"):
        given = {"kind": "failed", "note": note}
        call = {"id": "note", "name": "memory", "input": given}
        variation.calls.run(call, variation.talk.number)
    return note


def _ended(past: Sequence[Line]) -> Outcome | None:
    """The end that the step had, if it is one for good."""
    last = past[-1] if past else {}
    if last.get("event") != "ending" or last["ending"] not in FINAL:
        return None
    said = last["submission"]
    return Outcome(
        ending=Ending(last["ending"]),
        reason=last["reason"],
        submission=Submission(**said) if said else None,
        attempts=last["attempts"],
        usage=last["usage"],
        note=last["note"],
    )


def _submitted(past: Sequence[Line]) -> Submission | None:
    """What a step had proposed that was killed before it could say so."""
    models = [line["model"] for line in past if line["event"] == "response"]
    for line in past:
        if line["event"] == "tool" and line["submission"] and not line["is_error"]:
            said = line["submission"]
            return Submission(**{**said, "author": said["author"] or models[-1]})
    return None


def _noted(line: Line) -> dict[str, Any]:
    return block(line["id"], line["text"], more=line["more"], is_error=line["is_error"])


def _changes(step: Step) -> str:
    """The folder against the step's beginning: tracked files as a diff, new ones by name."""
    said = [_git(step, *DIFF, str(step.folder)), _git(step, *NEW, str(step.folder))]
    new = "".join(f"new file {name}\n" for name in said[1].splitlines())
    return "\n".join(part for part in (said[0].strip(), new.strip()) if part)


def _git(step: Step, *arguments: str) -> str:
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    done = subprocess.run(
        command, cwd=step.worktree, capture_output=True, text=True, errors="replace", check=False
    )
    return done.stdout if done.returncode == 0 else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
