# SPDX-License-Identifier: MIT
"""The command operator in its box, and proposals that somebody else judges: pull requests, a run
that waits on disk, and its end."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the agent extra is not installed")

from agent import confinement  # noqa: E402
from avo_pytest.loading import _module  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
evolving = _module(ROOT / "tests" / "evolving.py")
github_api = _module(ROOT / "tests" / "github_api.py")
evolve, git, told = evolving.evolve, evolving.git, evolving.told
gate, upstream = evolving.gate, evolving.upstream

SECRET = "credential-of-the-command-0123456789"
CLI = '''\
#!{python}
"""A coding-agent CLI that tries what it must not be able to do, edits the kernel, and submits."""
import json, os, pathlib, socket, subprocess, sys

brief = pathlib.Path(sys.argv[1]).read_text()
worktree = pathlib.Path.cwd()
proxy = os.environ["HTTPS_PROXY"].rpartition(":")[2]
found = {{"key": os.environ.get("MYCLI_KEY")}}

ASK = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as s:
    s.sendall(f"CONNECT {{sys.argv[2]}} HTTP/1.1\\\\r\\\\n\\\\r\\\\n".encode())
    print(s.recv(200).decode().split("\\\\r")[0], s.recv(200).decode() if len(sys.argv) > 3 else "")
"""

def asked(place, *more):
    with socket.create_connection(("127.0.0.1", int(proxy)), 10) as s:
        s.sendall(f"CONNECT {{place}} HTTP/1.1\\r\\n\\r\\n".encode())
        said = b""
        while chunk := s.recv(200):
            said += chunk
            if more and said.endswith(b"hello"):
                break
        return said.decode().split("\\r")[0] + said.decode()[-5:]

def said(*line):
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr

def wrote(path):
    try:
        path.write_text("mine")
        return True
    except OSError:
        return False

found["host"] = asked("{host}", True)
found["other host"] = asked("example.com:443")
found["child asks"] = said(sys.executable, "-c", ASK, proxy, "{host}")
found["shell asks"] = said("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{{proxy}} && echo open")
found["shell's key"] = said("bash", "-c", "echo $MYCLI_KEY; env; cat /proc/$PPID/environ")
found["sh's key"] = said("/bin/sh", "-c", "echo $MYCLI_KEY; cat /proc/$PPID/environ")
found["writes"] = [wrote(worktree / name) for name in ("bench/toy/problem.py", "pyproject.toml")]
found["sees"] = [os.path.exists(path) for path in {hidden}]
found["avo"] = said("avo", "--version")
found["tools"] = said("tool")
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(9999)", "{marker}"],
                 start_new_session=True)
wrong = "This is step 2" in brief
text = 'target = "simulated"\\n' + ('fault = "zeros"\\n' if wrong else "gain = 0.02\\n")
(worktree / "kernels/toy/simulated/kernel.toml").write_text(text)
idea = {{"idea": "half of the work @everyone", "rationale": "see <b>#1</b>"}}
found["submit"] = said("tool", "submit", json.dumps(idea))
pathlib.Path(os.environ["HOME"], "found.json").write_text(json.dumps(found))
'''


@pytest.fixture(scope="module")
def host():
    """A server that says hello to whoever comes."""
    server = socket.create_server(("127.0.0.1", 0))

    def greet():
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.sendall(b"hello")

    threading.Thread(target=greet, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.close()


def install(folder, root, host, marker):
    """The CLI on disk, and the settings that name it."""
    program = folder / "cli" / "bin" / "mycli"
    program.parent.mkdir(parents=True)
    run = root / ".avo" / "evolve" / "r3"
    hidden = [str(p) for p in (run / "remote.git", run / "journal.jsonl", root / ".git")]
    values = {"python": sys.executable, "host": host, "hidden": repr(hidden), "marker": marker}
    program.write_text(CLI.format(**values))
    program.chmod(0o755)
    settings = {
        "command": f"{program} {{file}}",
        "command_credentials": ["MYCLI_KEY"],
        "command_hosts": [host],
    }
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    with (root / "pyproject.toml").open("a") as file:
        file.write("[tool.avo.agent]\n" + "".join(lines))
    git(root, "commit", "-qam", "settings")


@pytest.mark.skipif(bool(confinement.refusal()), reason="no bubblewrap that works here")
def test_a_command_proposes_by_pull_requests_and_waits_for_their_verdicts(tmp_path, host):
    root = evolving.repository(tmp_path)
    marker = f"marker-{os.getpid()}"
    install(tmp_path, root, host, marker)
    fork = tmp_path / "fork.git"
    git(tmp_path, "init", "-q", "--bare", str(fork))
    home = root / ".avo" / "evolve" / "r3"
    run = ("--operator", "command", "--steps", "2", "--score-via", "ci", "--pull-requests")
    with github_api.serve("owner/name", bare=fork) as github:
        environment = {
            **github.environment(), "MYCLI_KEY": SECRET, "AVO_PROPOSER_REMOTE": str(fork),
            "AVO_PROPOSER_OWNER": "proposer",
        }  # fmt: skip
        code, said = evolve(root, *run, "--name", "r3", environment=environment)
        assert code == 3 and "wait for their verdicts" in evolving.last(said), said
        boxed(home, marker)
        (number,) = github.pulls
        proposed(github.pulls[number], home, fork)
        code, said = evolve(root, "--resume", "r3", environment=environment)
        assert code == 3 and list(github.pulls) == [number]  # nothing is proposed twice

        upstream(home)
        assert "promoted: version 0" in gate(home, told(home, "proposed", "commit")[0][0])
        code, said = evolve(root, "--resume", "r3", environment=environment)
        assert code == 3, said  # step 1 is over, step 2 waits
        assert told(home, "judged", "verdict", "version") == [("PROMOTE", 0)]
        assert told(home, "ended", "step", "result") == [(1, "version 0 of main")]
        second = max(github.pulls)
        gate(home, told(home, "proposed", "commit")[1][0])
        code, said = evolve(root, "--resume", "r3", environment=environment)
        assert code == 0, said
        assert evolving.last(said).startswith("AVO evolve toy/simulated: version 0 was promoted: +")
        assert told(home, "judged", "verdict")[1] == ("INCORRECT",)
        assert (github.pulls[number]["open"], github.pulls[second]["open"]) == (True, False)
        assert SECRET not in "".join(p.read_text() for p in home.rglob("*.jsonl"))


def boxed(home, marker):
    """What the command could do, and what it could not."""
    found = json.loads((home / "steps" / "0001" / "home" / "found.json").read_text())
    assert found["key"] == SECRET
    assert found["host"] == "HTTP/1.1 200 Connection establishedhello"
    assert found["other host"].startswith("HTTP/1.1 403")
    assert "200" not in found["child asks"]
    if confinement.cut():
        assert "open" not in found["shell asks"].split()
        assert SECRET not in found["shell's key"] + found["sh's key"]
    assert found["writes"] == [False, False]
    assert found["sees"] == [False, False, False]
    assert found["avo"].startswith("avo-pytest")
    assert "tool score" in found["tools"] and "submitted" in found["submit"]
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [line for line in lines if marker.encode() in line]  # nothing outlived the step


def proposed(pull, home, fork):
    """A branch on the fork and a text in which nothing of the model's is markup."""
    assert (pull["head_ref"], pull["head_repo"]) == ("evolve/r3/1", "proposer/name")
    commit = told(home, "proposed", "commit")[0][0]
    assert git(fork, "rev-parse", "evolve/r3/1") == commit
    changed = git(fork, "diff", "--name-only", f"{commit}~", commit)
    assert changed == "kernels/toy/simulated/kernel.toml"
    body = pull["body"]
    assert f"--avo-candidate {commit}" in body and "### Evidence" in body
    assert "@everyone" not in body and "<b>" not in body and "\\#1" not in body
