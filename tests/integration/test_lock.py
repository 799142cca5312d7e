# SPDX-License-Identifier: MIT
"""The device lock between real processes."""

from __future__ import annotations

import subprocess
import sys
import threading

from avo_pytest.lock import device_lock

HOLD = """
import sys
from avo_pytest.lock import device_lock
with device_lock(sys.argv[1], print):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_waits_and_is_told_for_whom() -> None:
    told: list[str] = []
    with holder("test-wait") as process:

        def waiting(who: str) -> None:
            told.append(who)
            threading.Timer(0.05, process.kill).start()

        with device_lock("test-wait", waiting):
            assert told == [f"pid {process.pid}"]


def test_a_killed_holder_frees_the_device() -> None:
    with holder("test-kill") as process:
        process.kill()
    with device_lock("test-kill", lambda _: None):
        pass


def test_devices_do_not_block_each_other() -> None:
    told: list[str] = []
    with holder("test-one") as process:
        with device_lock("test-other", told.append):
            assert told == []
        process.kill()
