# SPDX-License-Identifier: MIT
"""The steps from a bare Ubuntu machine with a driver to one that scores.

What is made: /opt/avo (root's, read-only for jobs) with the environment of a lock and the runner;
a user for jobs; a broker's account whose key can start one job and nothing else.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from avo_pytest.runner import texts
from avo_pytest.runner.steps import Step

PACKAGES = ("git", "g++", "bubblewrap", "python3", "python3-venv", "tar")
HERE = Path(__file__).resolve().parents[2]  # where avo_pytest is
CPU_LOCK, GPU_LOCK = "requirements/cpu.txt", "requirements/gpu.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the operator chose. `lock`: the version lock of the environment, an absolute path."""

    gpu: bool
    lock: Path
    prefix: Path = Path("/opt/avo")
    user: str = "avo"
    torch: str = ""  # where its build comes from, as uv names it; "none" leaves it out
    clock_mhz: int | None = None
    archive: Path | None = None  # actions-runner-linux-….tar.gz
    archive_sha256: str = ""
    broker_key: str = ""  # a line of an authorized_keys file

    @property
    def python(self) -> Path:
        """What scores."""
        return self.prefix / "venv" / "bin" / "python3"


def steps(machine: Machine) -> tuple[Step, ...]:
    """All steps, in order."""
    return tuple(_steps(machine))


def _steps(machine: Machine) -> Iterator[Step]:
    yield _packages()
    if machine.gpu:
        yield _driver()
    yield _account(machine.user, "jobs", "/usr/sbin/nologin")
    yield _environment(machine)
    yield sandbox(machine)
    yield _governor()
    if machine.gpu:
        yield _clocks(machine)
    yield _runner(machine)
    yield _job(machine)
    yield _broker(machine)


def _packages() -> Step:
    names = " ".join(PACKAGES)
    return Step(
        name="packages",
        what="git, a compiler, bubblewrap, Python",
        check="for p in git g++ bwrap python3 tar; do command -v $p; done; "
        "python3 -c 'import venv, ensurepip'",
        apply=f"apt-get update -q\nDEBIAN_FRONTEND=noninteractive apt-get install -q -y "
        f"--no-install-recommends {names}",
    )


def _driver() -> Step:
    return Step(
        name="driver",
        what="the NVIDIA driver answers, persistence is on",
        check="nvidia-smi --query-gpu=name,driver_version,persistence_mode --format=csv,noheader "
        "| tee /dev/stderr | grep -q Enabled",
        apply="command -v nvidia-smi || { echo 'no NVIDIA driver: install one from 580 on'; "
        "exit 1; }\nnvidia-smi -pm 1",
        undo="! command -v nvidia-smi || nvidia-smi -pm 0",
    )


def _account(name: str, purpose: str, shell: str) -> Step:
    user = shlex.quote(name)
    return Step(
        name=f"account-{purpose}",
        what=f"user {name}: no password, no group but its own",
        check=f"id {user}",
        apply=f"useradd --system --user-group --no-create-home --home-dir /nonexistent "
        f"--shell {shell} --comment 'avo {purpose}' {user}",
        undo=f"! id {user} >/dev/null 2>&1 || userdel {user}",
    )


def _environment(machine: Machine) -> Step:
    prefix, lock = shlex.quote(str(machine.prefix)), shlex.quote(str(machine.lock))
    python = shlex.quote(str(machine.python))
    backend = machine.torch or ("cu130" if machine.gpu else "cpu")
    without, source = ("torch", "") if backend == "none" else ("", f"--torch-backend {backend} ")
    check = f"{python} -I - {shlex.quote(str(HERE))} {lock} {without}"
    return Step(
        name="environment",
        what=f"{machine.python}: exactly the versions of {machine.lock.name}, owned by root",
        check=f"{check} <<'END'\n{texts.COMPARE}END",
        # --copies: AppArmor looks at the program's own path. No pip: jobs install nothing.
        apply=f"mkdir -p {prefix}\nrm -rf {prefix}/venv {prefix}/tools\n"
        f"python3 -m venv {prefix}/tools\n{prefix}/tools/bin/pip install --quiet 'uv>=0.6'\n"
        f"python3 -m venv --copies --without-pip {prefix}/venv\n"
        f"grep -v '^{without or '#'}==' {lock} > {prefix}/lock.txt\n"
        f"{prefix}/tools/bin/uv pip install --quiet --python {python} {source}"
        f"--no-deps --requirement {prefix}/lock.txt\nrm -rf {prefix}/tools\n"
        f"chown -R root:root {prefix}/venv\nchmod -R go-w {prefix}/venv",
        undo=f"rm -rf {prefix}/venv {prefix}/tools {prefix}/lock.txt\n"
        f"rmdir --ignore-fail-on-non-empty {prefix} || true",
    )


def sandbox(machine: Machine) -> Step:
    """The one step that a hosted machine needs as well."""
    profile = texts.apparmor(machine.python)
    return Step(
        name="sandbox",
        what="bubblewrap and the environment's Python may make user namespaces",
        check="command -v bwrap\n" + texts.AS_NOBODY + " bwrap --unshare-all --ro-bind / / "
        "--proc /proc --dev /dev -- true",
        apply=f"{texts.SUDO}\ncommand -v apparmor_parser || {{ echo 'user namespaces are off, and "
        f"not by AppArmor: see sysctl user.max_user_namespaces'; exit 1; }}\n"
        f"as_root tee {texts.PROFILE} >/dev/null <<'END'\n{profile}END\n"
        f"as_root apparmor_parser -r {texts.PROFILE}",
        undo=f"[ ! -e {texts.PROFILE} ] || {{ apparmor_parser -R {texts.PROFILE} || true; "
        f"rm -f {texts.PROFILE}; }}",
    )


def _governor() -> Step:
    every = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return Step(
        name="governor",
        what="CPU cores at their highest clock, where the machine lets us choose",
        check=f"shopt -s nullglob\nfor f in {every}; do grep -qx performance $f; done",
        apply=f"cat > /etc/systemd/system/avo-governor.service <<'END'\n{texts.GOVERNOR}END\n"
        "systemctl daemon-reload\nsystemctl enable --now avo-governor.service",
        undo="systemctl disable --now avo-governor.service || true\n"
        "rm -f /etc/systemd/system/avo-governor.service",
    )


def _clocks(machine: Machine) -> Step:
    mhz = machine.clock_mhz
    return Step(
        name="clocks",
        what=f"SM clocks locked to {mhz} MHz, at every start" if mhz else "SM clocks locked",
        lacks="" if mhz else "an option: --lock-clocks MHZ (then the regime is `locked`)",
        # Locked clocks stay up on an idle GPU, which is how one sees that the lock is in force.
        check=f"nvidia-smi --query-gpu=clocks.sm --format=csv,noheader,nounits | "
        f"awk -v want={mhz or 0} '{{ d = $1 - want; if (d < -15 || d > 15) bad = 1; print }} "
        f"END {{ exit bad || NR == 0 }}'",
        apply=f"cat > /etc/systemd/system/avo-clocks.service <<'END'\n{texts.clocks(mhz or 0)}END\n"
        "systemctl daemon-reload\nsystemctl enable --now avo-clocks.service\nsleep 2",
        undo="systemctl disable --now avo-clocks.service || true\n"
        "rm -f /etc/systemd/system/avo-clocks.service\n"
        "! command -v nvidia-smi || nvidia-smi -rgc",
    )


def _runner(machine: Machine) -> Step:
    prefix, archive = shlex.quote(str(machine.prefix)), shlex.quote(str(machine.archive))
    digest = shlex.quote(machine.archive_sha256)
    return Step(
        name="runner",
        what="GitHub's runner program, as its checksum says; it does not update itself in place",
        lacks=""
        if machine.archive and machine.archive_sha256
        else "--runner-archive FILE and --runner-sha256 HEX "
        "(`gh api repos/OWNER/NAME/actions/runners/downloads` says both)",
        check=f"test -x {prefix}/runner/run.sh\n"
        f'test "$(cat {prefix}/runner/.avo-sha256)" = {digest}',
        apply=f"echo {digest}'  '{archive} | sha256sum --check -\nrm -rf {prefix}/runner\n"
        f"mkdir -p {prefix}/runner\ntar -xzf {archive} -C {prefix}/runner --no-same-owner\n"
        f"echo {digest} > {prefix}/runner/.avo-sha256\nchmod -R go-w {prefix}/runner",
        undo=f"rm -rf {prefix}/runner",
    )


def _job(machine: Machine) -> Step:
    prefix = shlex.quote(str(machine.prefix))
    text = texts.run_once(machine.prefix, machine.user, gpu=machine.gpu)
    return Step(
        name="job",
        what="one job as that user: private /tmp and home in memory, all processes killed after it",
        check=f"cmp {prefix}/bin/run-once - <<'END'\n{text}END",
        apply=f"mkdir -p {prefix}/bin {prefix}/work {prefix}/calibrations\n"
        f"chown {shlex.quote(machine.user)} {prefix}/calibrations\n"
        f"cat > {prefix}/bin/run-once <<'END'\n{text}END\nchmod 755 {prefix}/bin/run-once",
        undo=f"rm -rf {prefix}/bin {prefix}/work {prefix}/calibrations",
    )


def _broker(machine: Machine) -> Step:
    account, once = f"{machine.user}-broker", machine.prefix / "bin" / "run-once"
    home = f"/var/lib/{account}"
    key = f'restrict,command="sudo -n {once}" {machine.broker_key}'
    sudoers = f'{account} ALL=(root) NOPASSWD: {once} ""'
    return Step(
        name="broker",
        what=f"account {account}, whose key starts one job and nothing else",
        lacks="" if machine.broker_key else "--broker-key FILE, the broker's public SSH key",
        check=f"id {account}\ngrep -qxF {shlex.quote(key)} {home}/.ssh/authorized_keys\n"
        f"grep -qxF {shlex.quote(sudoers)} /etc/sudoers.d/{account}",
        apply=f"id {account} >/dev/null 2>&1 || useradd --system --user-group --home-dir {home} "
        f"--shell /bin/sh {account}\n"
        # Root's folder: who runs there cannot give himself another key.
        f"install -d -o root -g root -m 755 {home} {home}/.ssh\n"
        f"printf '%s\\n' {shlex.quote(key)} > {home}/.ssh/authorized_keys\n"
        f"printf '%s\\n' {shlex.quote(sudoers)} > /etc/sudoers.d/{account}.new\n"
        f"visudo -cf /etc/sudoers.d/{account}.new\nchmod 440 /etc/sudoers.d/{account}.new\n"
        f"mv /etc/sudoers.d/{account}.new /etc/sudoers.d/{account}",
        undo=f"rm -f /etc/sudoers.d/{account}\n"
        f"! id {account} >/dev/null 2>&1 || userdel {account}\nrm -rf {home}",
    )
