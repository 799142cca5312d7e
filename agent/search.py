# SPDX-License-Identifier: MIT
"""A search over constants: which settings next, and which deserve a second look. For the sweep.

Optuna proposes, by a Parzen estimator. Successive halving decides who gets a screen after the quick
score. What was seen is in a file, one line a setting, so that a killed sweep and the steps after
it know it too.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.constants import Dimension, Values
from agent.lines import Lines, read

FILE = "sweep.jsonl"
QUICK, SCREEN = 1, 2  # rungs
STARTUP = 8  # settings before the estimator is trusted
HALVING = 3  # one in so many reaches the next rung
MOST_TRIES = 8  # of the estimator, for a setting that was not seen
MOST_LISTED = 20_000  # settings of a space that is small enough to be listed
MOST_PAIRS = 200


class Search:
    """Settings of one starting point; the starting point itself has gain 0 on both rungs."""

    def __init__(
        self,
        folder: Path,
        dimensions: Sequence[Dimension],
        *,
        seed: int,
        step: int = 0,
        region: str = "",
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._step = optuna, step
        self.start = {d.key: d.value for d in dimensions}
        self._distributions: dict[str, Any] = {
            d.key: optuna.distributions.IntDistribution(d.low, d.high, step=d.step)
            for d in dimensions
        }
        self._lines = Lines(folder / FILE)
        self.known = [line for line in read(folder / FILE) if line.get("start") == self.start]
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._dimensions, self._random = dimensions, random.Random(seed)
        self._remember(self.start, {QUICK: 0.0, SCREEN: 0.0})
        for line in self.known:
            self._remember(line["values"], {int(k): v for k, v in line["gains"].items()})
        for values in _first(dimensions, region or "neighbours", seed, self.known):
            self._study.enqueue_trial(values, skip_if_exists=True)

    def ask(self) -> Trial | None:
        """A setting that was not seen yet; None where none is left."""
        seen = {_key(self.start), *(_key(line["values"]) for line in self.known)}
        for attempt in range(MOST_TRIES + 1):
            if attempt == MOST_TRIES:  # the estimator has settled: anything that is new
                values = self._unseen(seen)
                if values is None:
                    return None
                self._study.enqueue_trial(values)
            trial = self._study.ask(self._distributions)
            if _key(trial.params) not in seen:
                return Trial(self, trial)
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None

    def among_the_best(self, rung: int, gain: float) -> bool:
        """Whether a gain is in the best third of all that were measured on a rung."""
        gains = [0.0, gain, *(line["gains"].get(str(rung), -math.inf) for line in self.known)]
        gains = sorted((g for g in gains if math.isfinite(g)), reverse=True)
        return bool(gain >= gains[max(1, len(gains) // HALVING) - 1])

    def _unseen(self, seen: set[tuple[tuple[str, int], ...]]) -> dict[str, int] | None:
        """Any setting that was not seen, drawn; of a large space, after so many tries none."""
        ranges = [range(d.low, d.high + 1, d.step) for d in self._dimensions]
        names = [d.key for d in self._dimensions]
        drawn: Iterable[Any]
        if math.prod(map(len, ranges)) <= MOST_LISTED:
            drawn = list(itertools.product(*ranges))
            self._random.shuffle(drawn)
        else:
            drawn = ([self._random.choice(r) for r in ranges] for _ in range(MOST_LISTED))
        settings = (dict(zip(names, values, strict=True)) for values in drawn)
        return next((values for values in settings if _key(values) not in seen), None)

    def best(self) -> tuple[Values, float] | None:
        """The setting that gained most on its highest rung, other than the start."""
        found = [line for line in self.known if line["gains"]]
        if not found:
            return None
        line = max(found, key=lambda one: (max(one["gains"]), one["gains"][max(one["gains"])]))
        return line["values"], float(line["gains"][max(line["gains"])])

    @property
    def mine(self) -> list[Mapping[str, Any]]:
        """What this step tried."""
        return [line for line in self.known if line["step"] == self._step]

    def close(self) -> None:
        """Safe to call twice."""
        self._lines.close()

    def tell(self, trial: Any, gains: Mapping[int, float], promising: bool, note: str) -> None:
        """What became of a setting, kept."""
        states = self._optuna.trial.TrialState
        if gains:
            self._study.tell(trial, gains[max(gains)])
        else:
            self._study.tell(trial, state=states.FAIL)
        line = {
            "step": self._step,
            "start": self.start,
            "values": trial.params,
            "gains": {str(rung): gain for rung, gain in gains.items()},
            "promising": promising,
            "note": note,
        }
        self._lines.append(line)
        self.known.append(line)

    def _remember(self, values: Values, gains: Mapping[int, float]) -> None:
        trials, states = self._optuna.trial, self._optuna.trial.TrialState
        self._study.add_trial(
            trials.create_trial(
                params=dict(values),
                distributions=self._distributions,
                value=gains[max(gains)] if gains else None,
                state=states.COMPLETE if gains else states.FAIL,
            )
        )


class Trial:
    """One setting on its way up the rungs."""

    def __init__(self, search: Search, trial: Any) -> None:
        self._search, self._trial = search, trial
        self.values: Values = dict(trial.params)
        self.gains: dict[int, float] = {}

    def climbs(self, rung: int, gain: float) -> bool:
        """Keep the gain on a rung; whether it is among the best third there."""
        self.gains[rung] = gain
        return self._search.among_the_best(rung, gain)

    def end(self, *, promising: bool = False, note: str = "") -> None:
        """It goes no further."""
        self._search.tell(self._trial, self.gains, promising, note)


def _first(
    dimensions: Sequence[Dimension], region: str, seed: int, known: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, int]]:
    """Settings to begin with, by region; after them the estimator proposes."""
    start = {d.key: d.value for d in dimensions}
    moves = [(d.key, value) for d in dimensions for value in d.neighbours()]
    random.Random(seed).shuffle(moves)
    if region == "untouched":
        touched = {k for line in known for k, v in line["values"].items() if v != start[k]}
        moves = [(key, value) for key, value in moves if key not in touched] or moves
    if region == "pairs":
        pairs = itertools.islice(itertools.combinations(moves, 2), MOST_PAIRS)
        yield from ({**start, **dict(pair)} for pair in pairs if pair[0][0] != pair[1][0])
    elif region != "whole":
        yield from ({**start, key: value} for key, value in moves)


def _key(values: Values) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(values.items()))
