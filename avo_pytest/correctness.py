# SPDX-License-Identifier: MIT
"""Is an output right? Rows against an oracle, bits against exact results, arm against arm.

Pure functions on numpy arrays. An output is a matrix of rows; errors are relative L2 norms of whole
rows, never absolute: where outputs are small, an absolute tolerance lets zeros pass. Every test is
written as `not (error <= limit)`, so that NaN fails.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avo_pytest.inputs import from_bf16, to_bf16
from avo_pytest.problem import Configuration, Problem, TensorSpec

# Limits are multiples of the *anchor*: the error of an honest emulation on the same rows. They are
# what honest variants of attention need (tiles 16 … 176, P in FP32 or BF16, cubic exp2, maxima up
# to 8 stale, split and reversed keys) with a margin. Study of 2000 random points, repeated by
#     pytest -m soak -s tests/soak/test_attention_limits.py
# None of 44 332 checks refused; largest shares of the limits used, RMS and worst row: all rows 0.86
# and 0.73, 16 rows 0.84 and 0.78, two arms 0.65 and 0.49. torch's flash and cuDNN kernels and
# FlashAttention-3 used 0.71 and 0.40 on an H200 (47 fixed and 60 random points). Just refused, with
# normal values, 256 rows and 4096 keys: P truncated to BF16 (1.06 of the RMS limit), BF16 scores
# (1.25), FP8 values for 2 % of the keys (1.27).
FLOOR = 1.7e-3  # relative RMS error of rounding to BF16: an honest kernel may always make it
RMS_FACTOR = 1.4
WORST_FACTOR = 2.8
ZEROS = 0.9  # no limit is above: a row of zeros has error 1
FLOPS_IN_FULL = 1e10  # check_output checks all rows up to here: about a second on two cores

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Error of an honest kernel: RMS over rows and worst row."""

    rms: float
    worst: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """Outcome of a comparison. Errors are relative, None where none could be computed."""

    ok: bool
    reason: str = ""
    rows: int
    error_rms: float | None = None
    limit_rms: float | None = None
    error_worst: float | None = None
    limit_worst: float | None = None


def check_output(
    problem: Problem,
    configuration: Configuration,
    contents: Mapping[str, Any],
    bits: NDArray[np.uint16],
) -> RowCheck:
    """A whole output (bit patterns) against the oracle: bitwise where the configuration is exact.

    Where the oracle would take too long on a CPU, rows drawn here and now are compared.
    """
    spec = problem.output(configuration)
    if bits.shape != (spec.rows, spec.shape[-1]):
        raise ValueError(f"{configuration.name}: output bits have shape {bits.shape}")
    share = FLOPS_IN_FULL / problem.flops(configuration)
    count = max(256, int(spec.rows * share))
    rows = sample_rows(secrets.randbits(64), spec.rows, count) if share < 1 else None
    oracle = problem.oracle(configuration, contents, rows)
    bits = bits if rows is None else bits[rows]
    if configuration.exact:
        return check_exact(bits, to_bf16(oracle.exact), spec=spec, rows=rows)
    return check_rows(from_bf16(bits), oracle.exact, oracle.honest, spec=spec, rows=rows)


def sample_rows(secret: int, rows: int, count: int) -> NDArray[np.int64]:
    """`count` different row numbers below `rows`, ascending; all of them if there are fewer."""
    if count >= rows:
        return np.arange(rows)
    chosen = np.random.default_rng(secret).choice(rows, count, replace=False, shuffle=False)
    return np.sort(chosen).astype(np.int64)


def row_errors(out: Any, exact: Any) -> Rows:
    """‖out - exact‖ / ‖exact‖ of each row; where exact is zero, 0 for zeros and inf for others."""
    with np.errstate(all="ignore"):
        distance, norm = _norms(np.asarray(out, np.float64) - exact), _norms(exact)
        return np.where(distance == 0, 0.0, distance / norm)


def anchor_of(exact: Any, honest: Any) -> Anchor:
    """The anchor on given rows. Raises ValueError where relative errors make no sense."""
    errors = row_errors(honest, exact)
    if not np.all(np.isfinite(errors)):
        row = int(np.argmin(np.isfinite(errors)))
        raise ValueError(
            f"row {row}: exactly 0, not finite, but not so in an honest kernel: "
            "these values need a bitwise comparison, or other values"
        )
    return Anchor(rms_of(errors), float(errors.max()), errors.size)


def limits(anchor: Anchor) -> tuple[float, float]:
    """Largest allowed RMS over rows and worst row of a candidate's errors on the anchor's rows.

    RMS: RMS_FACTOR·(1 + 1/√n) for n rows. A row that one key dominates carries that key's rounding
    of P as a common factor, up to 2^-8, in one kernel and not in another: the fewer rows, the less
    it averages out. One row has one limit: 2·RMS_FACTOR = WORST_FACTOR.
    """
    slack = 1 + 1 / math.sqrt(anchor.rows)
    rms = RMS_FACTOR * slack * max(anchor.rms, FLOOR)
    worst = WORST_FACTOR * max(anchor.worst, FLOOR)
    return min(rms, ZEROS), min(worst, ZEROS)


def check_rows(
    out: Any,
    exact: Any,
    honest: Any,
    *,
    spec: TensorSpec | None = None,
    rows: NDArray[np.int64] | None = None,
    anchor: Anchor | None = None,
) -> RowCheck:
    """Rows of an output against the oracle's. `spec` and `rows` (their numbers) name the culprit.

    NaN and infinities must be where the honest kernel has them, and nowhere else. `anchor` is that
    of these rows, for a caller with several outputs and finite values.
    """
    with np.errstate(invalid="ignore"):  # poison is a signalling NaN
        out, exact, honest = (np.asarray(x, np.float64) for x in (out, exact, honest))
    if out.shape != exact.shape:
        return RowCheck(ok=False, reason=f"shape {out.shape}, not {exact.shape}", rows=len(exact))
    place = Place(spec, rows)
    if not all(np.isfinite(x).all() for x in (out, exact, honest)):
        odd = _kind(out) != _kind(honest)
        if odd.any():
            return RowCheck(ok=False, reason=_odd_values(out, honest, odd, place), rows=len(exact))
        finite = np.isfinite(out) & np.isfinite(exact)
        out, exact, honest = (np.where(finite, x, 0.0) for x in (out, exact, honest))
    return _judge(row_errors(out, exact), out, exact, anchor or anchor_of(exact, honest), place)


def check_exact(
    bits: NDArray[np.uint16],
    expected: NDArray[np.uint16],
    *,
    spec: TensorSpec | None = None,
    rows: NDArray[np.int64] | None = None,
) -> RowCheck:
    """Bit patterns against the only right ones; 0 and -0 are the same."""
    wrong = _plain(bits) != _plain(expected)
    if not wrong.any():
        return RowCheck(ok=True, rows=len(bits), error_rms=0.0, limit_rms=0.0)
    place = Place(spec, rows)
    got, want = from_bf16(bits), from_bf16(expected)
    first = "; ".join(
        f"{place(row, column)} is {got[row, column]:g}, not {want[row, column]:g}"
        for row, column in np.argwhere(wrong)[:3]
    )
    reason = (
        f"{wrong.sum()} of {wrong.size} elements in {wrong.any(1).sum()} of {len(bits)} rows "
        f"differ from the exact result: {first}"
    )
    return RowCheck(ok=False, reason=reason, rows=len(bits))


@dataclass(frozen=True, slots=True)
class Place:
    """Names an element by tensor and index, as far as they are known."""

    spec: TensorSpec | None
    rows: NDArray[np.int64] | None

    def __call__(self, row: int, column: int | None = None) -> str:
        number = int(row if self.rows is None else self.rows[row])
        if self.spec is None:
            return f"row {number}" if column is None else f"row {number} column {column}"
        index = [str(i) for i in np.unravel_index(number, self.spec.shape[:-1])]
        index.append(":" if column is None else str(column))
        return f"{self.spec.name}[{', '.join(index)}]"


def _judge(errors: Rows, out: Rows, exact: Rows, anchor: Anchor, place: Place) -> RowCheck:
    limit_rms, limit_worst = limits(anchor)
    rms, row = rms_of(errors), int(np.argmax(errors))
    reasons = []
    if not (rms <= limit_rms):
        reasons.append(f"RMS error {rms:.2e} over {errors.size} rows (limit {limit_rms:.2e})")
    if not (errors[row] <= limit_worst):
        count = np.count_nonzero(~(errors <= limit_worst))
        reasons.append(f"{count} of {errors.size} rows are off by more than {limit_worst:.2e}")
    if reasons:
        column = int(np.argmax(np.abs(out[row] - exact[row])))
        reasons.append(
            f"worst {place(row)} by {errors[row]:.2e}: {place(row, column)} is "
            f"{out[row, column]:.5g}, not {exact[row, column]:.5g}"
        )
    return RowCheck(
        ok=not reasons,
        reason="; ".join(reasons),
        rows=errors.size,
        error_rms=number_or_none(rms),
        limit_rms=limit_rms,
        error_worst=number_or_none(float(errors[row])),
        limit_worst=limit_worst,
    )


def _odd_values(out: Rows, honest: Rows, odd: NDArray[np.bool_], place: Place) -> str:
    row, column = np.argwhere(odd)[0]
    return (
        f"{odd.sum()} elements in {odd.any(1).sum()} of {len(odd)} rows are NaN or infinite where "
        f"the reference is not, or the reverse: {place(row, column)} is {out[row, column]:g}, "
        f"not {honest[row, column]:g}"
    )


def _kind(values: Rows) -> NDArray[np.int8]:
    """0 finite, 1 NaN, 2 inf, 3 -inf."""
    kinds: NDArray[np.int8] = np.isnan(values).astype(np.int8)
    kinds[values == np.inf], kinds[values == -np.inf] = 2, 3
    return kinds


def _plain(bits: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.where(bits == 0x8000, np.uint16(0), bits)


def _norms(values: Rows) -> Rows:
    norms: Rows = np.sqrt(np.einsum("rc,rc->r", values, values))
    return norms


def rms_of(errors: Rows) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(errors**2)))


def number_or_none(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None
