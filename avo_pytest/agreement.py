# SPDX-License-Identifier: MIT
"""Do two arms agree on every row? Fingerprints of whole outputs, compared on the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avo_pytest.correctness import (
    FLOOR,
    RMS_FACTOR,
    ZEROS,
    Anchor,
    Place,
    RowCheck,
    Rows,
    anchor_of,
    limits,
    number_or_none,
    rms_of,
)
from avo_pytest.fingerprints import projections
from avo_pytest.problem import TensorSpec

FALSE_ALARM = 1e-9  # of one comparison of two arms, over all its rows
MOST_ROWS = 1 << 21


def compare(
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    anchor: Anchor,
    spec: TensorSpec | None = None,
) -> RowCheck:
    """Fingerprints of two arms' outputs for the same inputs and secret: do *all* rows agree?

    With D the difference of two rows and p, r its projections, t² = (p² + r²)/2 has mean ‖D‖². Two
    honest arms differ by √2 of one arm's error, so (relative to the longer row, n rows in all)

    - RMS of t over rows ≤ √2·limit_rms·√(1 + 2√(L/2n) + L/n), L = ln(1/FALSE_ALARM);
    - t of each row ≤ √2·RMS_FACTOR·anchor.rms·√ln(MOST_ROWS/FALSE_ALARM), a factor of 5.9;
    - norms of each row differ by at most √2·limit_worst.

    False alarm: t²/‖D‖² has lighter tails than Exp(1) (chi-square of 2 over 2; signs are below
    normals), so ≤ FALSE_ALARM for either of the first two, for up to 2^21 rows, if no honest row
    differs by more than its limit before the factor; the third involves no chance.
    Detection of one wrong row at relative distance e, for an anchor of 2.35e-3: a miss has
    probability 1 - exp(-(0.028/e)²): e = 1 (a zero row, another row's values) 8e-4, 0.1 7 %. A
    wrong tile of 64 rows: these to the power of 64, below 1e-72. Zeros and anything that changes
    the norm by more than √2·limit_worst (1.3 %) are always found, so is one wrong element; two
    equally wrong elements cancel in both projections with probability 1/4. Signs are new in each
    launch, so what is wrong in every launch is found in a few.
    """
    errors, norms = _distances(one, other)
    widened = math.sqrt(2) * _inflation(len(one))
    limit_rms = min(widened * limits(anchor)[0], ZEROS)
    rms, limit_row = rms_of(errors), math.sqrt(2) * _row_limit(anchor)
    bad = _beyond(errors, norms, anchor, math.sqrt(2))
    ok = bool(rms <= limit_rms) and not bad.size
    reason = ""
    if not ok:
        place = Place(spec, None)
        where = f", first {place(int(bad[0]))}" if bad.size else ""
        reason = (
            f"two arms disagree for the same inputs: RMS {rms:.2e} (limit {limit_rms:.2e}), "
            f"{bad.size} of {len(one)} rows differ{where}"
        )
    return RowCheck(
        ok=ok,
        reason=reason,
        rows=len(one),
        error_rms=number_or_none(rms),
        limit_rms=limit_rms,
        error_worst=number_or_none(float(np.max(errors))),
        limit_worst=limit_row,
    )


def differing(
    one: NDArray[np.float32], other: NDArray[np.float32], anchor: Anchor | None = None
) -> NDArray[np.int64]:
    """Rows in which two arms' fingerprints differ by more than `compare` allows a single row."""
    errors, norms = _distances(one, other)
    return _beyond(errors, norms, anchor or Anchor(FLOOR, FLOOR, MOST_ROWS), math.sqrt(2))


def check_projection(
    given: NDArray[np.float32], exact: Any, honest: Any, rows: NDArray[np.int64], secret: int
) -> RowCheck:
    """Fingerprints of some rows against the oracle's own: which of two disagreeing arms is wrong.

    Limits are those of a single row in `compare` without the √2, however the rows were chosen.
    """
    exact = np.asarray(exact, np.float64)
    own = np.concatenate([projections(exact, rows, secret), (exact**2).sum(1)[:, None]], axis=1)
    anchor = anchor_of(exact, honest)
    errors, norms = _distances(given, own)
    bad = _beyond(errors, norms, anchor, 1.0)
    reason = ""
    if bad.size:
        reason = (
            f"{bad.size} of {len(rows)} suspected rows are wrong by their projections: row "
            f"{rows[bad[0]]} is off by about {max(errors[bad[0]], norms[bad[0]]):.2e}"
        )
    return RowCheck(
        ok=not bad.size,
        reason=reason,
        rows=len(rows),
        error_worst=number_or_none(float(np.max(errors))),
        limit_worst=_row_limit(anchor),
    )


def _distances(one: Any, other: Any) -> tuple[Rows, Rows]:
    """Per row, relative to the longer: √mean squared difference of projections, of the norms."""
    # Column by column: half a million rows after every turn, and the device waits.
    (p, r, squares), (other_p, other_r, other_squares) = (
        np.array(np.asarray(x).T, np.float64, order="C") for x in (one, other)
    )
    with np.errstate(all="ignore"):
        norm, other_norm = np.sqrt(squares), np.sqrt(other_squares)
        longer = np.maximum(norm, other_norm)
        longer[~np.isfinite(longer)] = np.nan  # nothing agrees with NaN or overflow
        longer[longer == 0] = np.finfo(np.float64).tiny
        apart = np.sqrt(((p - other_p) ** 2 + (r - other_r) ** 2) / 2)
        return apart / longer, np.abs(norm - other_norm) / longer


def _row_limit(anchor: Anchor) -> float:
    return RMS_FACTOR * max(anchor.rms, FLOOR) * math.sqrt(math.log(MOST_ROWS / FALSE_ALARM))


def _beyond(errors: Rows, norms: Rows, anchor: Anchor, widened: float) -> NDArray[np.int64]:
    limit = min(widened * _row_limit(anchor), ZEROS)
    limit_norm = min(widened * limits(anchor)[1], ZEROS)
    return np.flatnonzero(~((errors <= limit) & (norms <= limit_norm)))


def _inflation(rows: int) -> float:
    """How much the RMS of t over so many rows may exceed its mean (Laurent and Massart)."""
    chance = math.log(1 / FALSE_ALARM)
    return math.sqrt(1 + 2 * math.sqrt(chance / (2 * rows)) + chance / rows)
