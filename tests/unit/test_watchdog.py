# SPDX-License-Identifier: MIT
"""A process that keeps us waiting in the kernel is killed after its time, others are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from avo_pytest.devices import watchdog


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], start_new_session=True)


def test_who_is_late_is_killed() -> None:
    with sleeper() as process:
        begun = time.monotonic()
        with watchdog.expecting(process.pid, 0.2) as late:
            status = os.waitpid(process.pid, os.WUNTRACED)[1]
        process.returncode = os.waitstatus_to_exitcode(status)
    assert late == [process.pid] and process.returncode == -signal.SIGKILL
    assert time.monotonic() - begun < 10


def test_who_is_in_time_lives_on() -> None:
    with sleeper() as process:
        with watchdog.expecting(process.pid, 0.1) as late:
            pass
        time.sleep(1.2)
        assert late == [] and process.poll() is None
        process.kill()
