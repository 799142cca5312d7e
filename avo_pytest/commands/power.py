# SPDX-License-Identifier: MIT
"""`avo power`: which gains a confirm finds on this device, how surely, and for how many seconds."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avo_pytest.calibration import Calibration
    from avo_pytest.policy import Policy
    from avo_pytest.report.power import Resolution

HOME = ".avo"
EXAMPLES = """\
examples:
  avo power                              from the newest calibration under .avo/calibrations
  avo power --gain 0.3%                  how many replicates find a gain of 0.3 %
  avo power --target cpu --gain 1.5%     from a calibration of the CPU
  avo power --calibration FILE           from this one
  avo power --sd 0.09% --min-gain 0.1%   without one: from the spread of A/A process values

exit status: 0, or 2 for usage and where there is no calibration.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "power",
        help="which gains a confirm finds on this device, and for how many seconds",
        description="Which gains a confirm finds on this device, how surely, and for how many "
        "seconds: from a stored calibration and the policy of ./pyproject.toml.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    percent = {"type": fraction, "metavar": "PERCENT"}
    parser.add_argument("--target", metavar="TARGET", help="of the calibration (default: any)")
    parser.add_argument("--gain", **percent, help="default: target_gain of the policy")
    parser.add_argument("--power", **percent, help="wanted probability (default: the policy's)")
    parser.add_argument("--min-gain", **percent, help="default: the policy's, or 3 x session bias")
    parser.add_argument("--alpha", **percent, help="of the confirm (default: the policy's)")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="default: the newest")
    parser.add_argument("--sd", **percent, help="of A/A process values, instead of a calibration")
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="repository (default: here)"
    )


def fraction(text: str) -> float:
    """`0.3%` or `0.003`, above 0 and below 1, as argparse wants it told."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a percentage such as 0.3% (or 0.003)")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from avo_pytest.report.power import text

    try:
        gain, found = resolution(arguments)
    except (ValueError, OSError) as error:
        print(f"avo power: {error}", file=sys.stderr)
        return 2
    print(text(found, gain), end="")
    return 0


def resolution(arguments: argparse.Namespace) -> tuple[float, Resolution]:
    """The gain asked for and what decides whether it is found. Raises ValueError, OSError."""
    from avo_pytest.devices.scenarios import DEVICE
    from avo_pytest.policy import load
    from avo_pytest.report.power import Resolution

    if arguments.sd is not None and arguments.calibration is not None:
        raise ValueError("--sd and --calibration both say what the spread is; give one")
    calibration = None if arguments.sd is not None else _calibration(arguments)
    target = calibration.conditions.target if calibration is not None else arguments.target
    policy = load(arguments.root, "cpu" if target in ("cpu", DEVICE) else "cuda")
    return arguments.gain or policy.target_gain, Resolution(
        told=_told(calibration),
        sd=calibration.process_sd if calibration is not None else arguments.sd,
        min_gain=arguments.min_gain or _min_gain(policy, calibration),
        alpha=arguments.alpha or policy.alpha_confirm,
        wanted=arguments.power or policy.power,
        replicate_s=_replicate_s(policy, calibration),
    )


def _min_gain(policy: Policy, calibration: Calibration | None) -> float:
    from avo_pytest.sample_size import effective_min_gain

    return policy.min_gain if calibration is None else effective_min_gain(policy, calibration)


def _replicate_s(policy: Policy, calibration: Calibration | None) -> float | None:
    """Seconds of one process with as many blocks as the policy has now."""
    if calibration is None:
        return None
    from statistics import median

    block_s = median(calibration.block_seconds)
    return median(calibration.start_seconds) + policy.confirm_blocks * block_s


def _told(calibration: Calibration | None) -> str:
    if calibration is None:
        return "from the command line, no calibration"
    c = calibration.conditions
    return (
        f"calibration of {calibration.created}: {c.device}, {c.kernel}/{c.target}, set {c.set}, "
        f"{len(calibration.values)} processes"
    )


def _calibration(arguments: argparse.Namespace) -> Calibration:
    """The file asked for, or the newest stored one of the target."""
    from avo_pytest import calibrations
    from avo_pytest.calibration import Calibration

    if arguments.calibration is not None:
        return _read(arguments.calibration)
    home, wanted = arguments.root / HOME, arguments.target
    stored = [found for _, found in calibrations.stored(home) if isinstance(found, Calibration)]
    fitting = [c for c in stored if wanted is None or c.conditions.target == wanted]
    if not fitting:
        of_target = f" of target {wanted}" if wanted else ""
        raise ValueError(
            f"no calibration{of_target} in {home / calibrations.FOLDER}: run avo calibrate on the "
            "device, or give --calibration FILE or --sd PERCENT"
        )
    return fitting[0]


def _read(path: Path) -> Calibration:
    from avo_pytest.calibration import from_dict

    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
