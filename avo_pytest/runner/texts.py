# SPDX-License-Identifier: MIT
"""The files that a scoring machine gets, as text."""

from __future__ import annotations

import shlex
from pathlib import Path

PROFILE = "/etc/apparmor.d/avo"
SUDO = 'as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }'
# Root may make namespaces where others may not, so that asking as root would prove nothing.
AS_NOBODY = '$([ "$(id -u)" -ne 0 ] || echo setpriv --reuid=65534 --regid=65534 --clear-groups)'
COMPARE = """\
import re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from avo_pytest.ci import environment
lock = Path(sys.argv[2])
found = environment.compare(lock)
have = {*environment.installed(), *environment.FREE}
asked = re.findall(r"(?m)^([A-Za-z0-9._-]+)==", lock.read_text(encoding="utf-8"))
asked = [n for n in asked if n not in sys.argv[3:]]
missing = [n for n in asked if re.sub(r"[-_.]+", "-", n).lower() not in have]
wrong = [*found.differences, *(f"{n}: missing" for n in missing)]
print("\\n".join(wrong) or f"{len(asked)} versions, digest {found.digest[:12]}")
sys.exit(bool(wrong))
"""
GOVERNOR = """\
[Unit]
Description=avo: CPU cores at their highest clock

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for f in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do \\
  echo performance > $f; done'

[Install]
WantedBy=multi-user.target
"""


def apparmor(python: Path) -> str:
    """Programs that may make user namespaces; nothing else of them is restricted."""
    return f"""\
# avo: sandboxes are made of user namespaces, which AppArmor forbids unless a profile allows them.
abi <abi/4.0>,
include <tunables/global>

profile avo-bwrap /usr/bin/bwrap flags=(unconfined) {{
  userns,
}}

profile avo-python {python} flags=(unconfined) {{
  userns,
}}
"""


def clocks(mhz: int) -> str:
    """A unit that locks the SM clocks at every start of the machine."""
    return f"""\
[Unit]
Description=avo: SM clocks locked to {mhz} MHz
After=nvidia-persistenced.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/nvidia-smi -pm 1
ExecStart=/usr/bin/nvidia-smi -lgc {mhz},{mhz}
ExecStop=/usr/bin/nvidia-smi -rgc

[Install]
WantedBy=multi-user.target
"""


def run_once(prefix: Path, user: str, *, gpu: bool) -> str:
    """What the broker's key starts, as root: one job in a unit of its own.

    The registration comes on standard input, is good for one job, and is not kept. The unit's home
    and /tmp exist in memory and for its processes only, all of which are killed at its end.
    """
    work = f"{prefix}/work"
    devices = "" if gpu else "  --property=PrivateDevices=yes \\\n"
    job = (
        f"set -eu; read -r registration; cp -R {shlex.quote(str(prefix))}/runner {work}/runner; "
        f'cd {work}/runner; exec ./run.sh --jitconfig "$registration"'
    )
    return f"""\
#!/bin/sh
# avo: one job, from a registration on standard input. Made by `avo runner setup`.
set -eu
exec systemd-run --quiet --pipe --wait --collect --unit=avo-job \\
  --uid={user} --gid={user} --setenv=HOME={work} --setenv=PATH=/usr/bin:/bin \\
  --setenv=AVO_PYTHON={prefix}/venv/bin/python3 --setenv=AVO_CALIBRATIONS={prefix}/calibrations \\
  --property=TemporaryFileSystem={work}:mode=1777,size=16G --property=PrivateTmp=yes \\
{devices}\
  --property=ProtectSystem=strict --property=ProtectHome=yes \\
  --property=ReadWritePaths={prefix}/calibrations \\
  --property=KillMode=control-group --property=RuntimeMaxSec=5h --property=OOMPolicy=kill \\
  --property=LimitCORE=0 --property=RestrictSUIDSGID=yes \\
  /bin/sh -c {shlex.quote(job)}
"""
