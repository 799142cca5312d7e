# SPDX-License-Identifier: MIT
"""From what is asked for to an order, or a refusal: a proposal is data, nothing of it is run."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avo_pytest import branches, commits, gates, landing, ledger
from avo_pytest.branches import GitError, git_text
from avo_pytest.ci import order, rights
from avo_pytest.ci.event import Asked
from avo_pytest.ci.github import GitHub
from avo_pytest.ci.order import Order
from avo_pytest.ci.refusal import refuse
from avo_pytest.entries import VERDICT, Entry
from avo_pytest.harness import harness_hash
from avo_pytest.loading import problem_reference

REMOTE = "origin"
RUNS = 3  # of one question, the first and two after INVALID
DECIDED = ("PROMOTE", "REJECT", "INCONCLUSIVE", "INCORRECT", "NO-CHANGE")


def begun(asked: Asked, event: str) -> Order:
    """What is known before anybody was asked."""
    return Order(
        event=event,
        sender=asked.sender,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        repository=os.environ.get("GITHUB_REPOSITORY", ""),
        run=os.environ.get("GITHUB_RUN_ID", ""),
        attempt=int(os.environ.get("GITHUB_RUN_ATTEMPT") or 1),
        nonce=secrets.token_hex(16),
        pull=asked.pull or 0,
        ref=asked.ref,
        proposal=asked.sha,
    )


def admit(asked: Asked, found: Order, root: Path, github: GitHub | None) -> Order:
    """Who asks and for which commit. Raises Refused, GitHubError, GitError."""
    if not found.pull:
        return _branch(asked, found, root)
    if github is None:
        raise GitError("a pull request can only be read with GITHUB_REPOSITORY set")
    pull = rights.pull(github, asked)
    return replace(found, proposal=pull.head, author=pull.author, fork=pull.fork)


def locate(found: Order, root: Path) -> Order:
    """Brings the commit here; with main's tip, and the kernel and target that it touches."""
    with branches.opened(root) as repository:
        base = git_text(repository, "rev-parse", "--verify", "HEAD^{commit}")
        _fetch(repository, found)
        kernel, target = _place(repository, found.proposal, base)
        return replace(found, base=base, kernel=kernel, target=target)


def read(found: Order, root: Path, out: Path) -> Order:
    """The order of a located proposal; the candidate's files go below `out`.

    Raises Refused, GitError, GateError.
    """
    with branches.opened(root) as repository:
        base = found.base
        try:
            proposal = landing.read_proposal(repository, found.proposal, base)
            landed = landing.landing_commit(repository, base, proposal, {})
        except landing.Refused as no:
            raise refuse(no.rule, str(no), no.advice) from no
        blobs = [blob for _, blob in proposal.files.values()]
        contents = dict(zip(proposal.files, commits.contents(repository, blobs), strict=True))
        return replace(
            found,
            landing=landed,
            kernel=proposal.kernel,
            target=proposal.target,
            candidate=proposal.candidate,
            incumbent=proposal.incumbent,
            harness=_harness(root, proposal.kernel),
            idea=proposal.idea,
            author=found.author or proposal.author,
            files=order.keep(contents, out),
            gates=_gates(repository, base, proposal.kernel, proposal.target),
        )


def question(asked: Asked, found: Order, root: Path) -> None:
    """Refuse what has been answered: a second judgement of the same is another try at luck.

    A person with rights may ask again; it is counted.
    """
    if not found.incumbent:
        text = f"main has no kernels/{found.kernel}/{found.target}: there is nothing to beat"
        raise refuse("seed", text, "a first version goes through review (docs/promotion.md)")
    earlier = _earlier(root, found)
    decided = [e for e in earlier if e.verdict in DECIDED]
    if decided and not (asked.by_comment or asked.by_hand):
        said = f"{decided[-1].verdict} {decided[-1].id}"
        raise refuse("known", f"the same was judged before: {said}", recorded=False)
    if len(earlier) - len(decided) >= RUNS:
        text = f"{RUNS} judgements of this candidate were INVALID"
        raise refuse("attempts", text, "mend the machine (see their reasons), change the kernel")


def noted(found: Order, github: GitHub | None) -> Order:
    """With what whoever waits should know. Raises Refused where a gate has no runner."""
    if github is None or not github.token:
        return found
    note = rights.refuse_absent_runner(github, found.gates)
    return replace(found, notes=(note,)) if note else found


def _branch(asked: Asked, found: Order, root: Path) -> Order:
    with branches.opened(root) as repository:
        listed = _git(repository, "ls-remote", "--", REMOTE, asked.ref).split("\n")
    tips = {line.partition("\t")[2]: line.partition("\t")[0] for line in listed}
    if tips.get(asked.ref) != asked.sha:
        raise refuse("head", f"{asked.ref} is not at {asked.sha[:12]} any more", recorded=False)
    return found


def _fetch(repository: Any, found: Order) -> None:
    """The commit by its name; from a pull request's ref where a server serves no bare names."""
    if branches.has(repository, found.proposal):
        return
    quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    wanted = [found.proposal, *([f"refs/pull/{found.pull}/head"] if found.pull else [])]
    for number, name in enumerate(wanted, 1):
        try:
            _git(repository, "fetch", *quiet, "--refmap=", "--", REMOTE, name)
        except GitError:
            if number == len(wanted):
                raise
        if branches.has(repository, found.proposal):
            return
    raise GitError(f"{REMOTE} does not have {found.proposal}")


def _git(repository: Any, *line: str) -> str:
    """With the job's token where the remote wants one. It is not kept in the clone."""
    token, server = os.environ.get("GITHUB_TOKEN"), os.environ.get("GITHUB_SERVER_URL")
    if not (token and server and server.startswith("https://")):
        return git_text(repository, *line)
    secret = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    given = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{server}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {secret}",
    }
    return git_text(repository, *line, env=given)


def _place(repository: Any, commit: str, base: str) -> tuple[str, str]:
    """Kernel and target that a proposal touches, also one that is refused; else unknown."""
    path = "kernels"
    found: list[str] = []
    try:
        common = git_text(repository, "merge-base", commit, base)
        for _ in ("kernel", "target"):
            sides = [commits.descend(repository, c, path) for c in (common, commit)]
            before, after = (commits.children(repository, t) if t else {} for t in sides)
            names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
            found.append(names[0])
            path = f"{path}/{names[0]}"
    except (GitError, IndexError):
        pass
    if len(found) == 2 and all(map(gates.NAME.fullmatch, found)):
        return found[0], found[1]
    return order.UNKNOWN, order.UNKNOWN


def _gates(repository: Any, base: str, kernel: str, target: str) -> tuple[Mapping[str, Any], ...]:
    text = branches.read_file(repository, base, "pyproject.toml") or b""
    table = gates.load_text(text.decode("utf-8", "replace"), f"{base[:12]}:pyproject.toml")
    rows = [order.row(g) for g in table if (g.kernel, g.target) == (kernel, target)]
    if not any(row["role"] == gates.JUDGE for row in rows):
        text_ = f"no device judges {kernel}/{target}"
        raise refuse("gate", text_, f"a row of {gates.TABLE} with role judge (docs/adopt.md)")
    return tuple(rows)


def _harness(root: Path, kernel: str) -> str:
    try:
        return harness_hash(root, problem_reference(kernel, root))
    except (OSError, ValueError, KeyError) as error:
        raise refuse("problem", f"bench/{kernel} has no problem: {error}") from error


def _earlier(root: Path, found: Order) -> list[Entry]:
    """What the ledger has of the same candidate, incumbent and harness."""
    wanted = {key: getattr(found, key) for key in ("candidate", "incumbent", "harness")}
    try:
        entries = ledger.load(root)
    except ledger.NoLedger:
        return []
    return [
        e
        for e in entries
        if e.kind == VERDICT and all(e.identities.get(k) == v for k, v in wanted.items())
    ]
