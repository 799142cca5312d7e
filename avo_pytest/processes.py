# SPDX-License-Identifier: MIT
"""One value a process: what estimates, calibrated bands and the confirm are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avo_pytest.contrasts import carry_overs, order_effects
from avo_pytest.evidence import Launches, candidate_first, carried, paired
from avo_pytest.statistics import Array

ARMS = ("candidate", "incumbent", "null")  # of screen, confirm and calibrate; names are roles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Processes:
    """Log ratios of P processes; order and carry-over are nan where a process says nothing."""

    medians: Array  # (process, configuration): over blocks, candidate against incumbent
    null_medians: Array  # the null twin against the incumbent
    order: Array
    carry: Array  # of the incumbent's code: negative where it is slower after the candidate
    block_sds: Array  # of the block values within each process

    @property
    def values(self) -> Array:
        """D_p: mean over the configurations of the medians over blocks (measuring.md §2.2)."""
        return np.asarray(self.medians.mean(axis=1))

    @property
    def null_values(self) -> Array:
        """The same of the null twin."""
        return np.asarray(self.null_medians.mean(axis=1))


def processes(launches: Launches) -> Processes:
    """Of complete replicates with as many blocks each (see `Launches.missing`)."""
    count = len({replicate for replicate, _ in launches.rows})
    shape = (count, -1, len(launches.configurations))
    d = paired(launches, "candidate", "incumbent").reshape(shape)
    null = paired(launches, "null", "incumbent").reshape(shape)
    first = candidate_first(launches).reshape(shape)
    own, other = (x.reshape(shape) for x in carried(launches))
    return Processes(
        medians=np.median(d, axis=1),
        null_medians=np.median(null, axis=1),
        order=order_effects(d, first),
        carry=carry_overs(own, other),
        block_sds=np.std(d.mean(axis=2), axis=1, ddof=1),
    )


def block_values(launches: Launches) -> Array:
    """D_pb of complete blocks, candidate against incumbent, in order of replicate and block."""
    return np.asarray(paired(launches, "candidate", "incumbent").mean(axis=1))


def said(values: Array) -> Array:
    """Without those of processes that say nothing."""
    return values[~np.isnan(values)]
