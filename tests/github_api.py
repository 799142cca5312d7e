# SPDX-License-Identifier: MIT
"""GitHub's REST interface on loopback, with real state: pulls, comments, checks, rights, runners.

    with github_api.serve("owner/name", bare=path) as github:
        number = github.open_pull("alice", head_sha=sha)
        subprocess.run(..., env={**os.environ, **github.environment()})
        assert github.comments[number][0]["body"]

`github.fail(...)` scripts faults. `github.exchanges` keeps every request and answer, so that
github_openapi.objections() can hold them against GitHub's published description.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


forms = _beside("github_api_forms")
BOT = "github-actions[bot]"
Answer = tuple[int, Any]


@dataclass
class Exchange:
    """One request and what it was answered; `template` is the path as the description has it."""

    method: str
    path: str
    template: str
    query: dict[str, str]
    body: Any
    status: int
    answer: Any
    scripted: bool = False


@dataclass
class Fault:
    """Instead of an answer to the next `times` requests that match. `delay_s` before it;
    `status` 0 closes the connection; `cut` sends half of the right answer."""

    method: str
    pattern: str
    status: int = 500
    times: int = 1
    message: str = "scripted"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: bool = False


@dataclass
class FakeGitHub:
    """The state of one repository; `bare` is its git side, where branches are read."""

    repository: str
    bare: Path | None = None
    url: str = ""
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    permissions: dict[str, str] = field(default_factory=dict)
    runners: list[dict[str, Any]] = field(default_factory=list)
    dispatches: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[tuple[str, str], Answer] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    page_size: int = 100  # at most so many items a page, whatever is asked for
    lock: threading.RLock = field(default_factory=threading.RLock)
    _next: int = 0

    def environment(self, token: str = "token-of-the-job") -> dict[str, str]:
        """What GitHub sets for a job."""
        return {
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": self.repository,
            "GITHUB_TOKEN": token,
            "GITHUB_RUN_ID": "7000001",
            "GITHUB_RUN_ATTEMPT": "1",
        }

    def open_pull(self, author: str, *, head_sha: str, **changes: Any) -> int:
        """A pull request; its author owns `head_repo` unless it is this repository."""
        with self.lock:
            number = self._number()
            self.pulls[number] = {
                "number": number, "title": "A faster kernel", "body": "", "author": author,
                "repository": self.repository, "head_repo": self.repository,
                "head_ref": f"proposal-{number}", "head_sha": head_sha,
                "base_ref": "main", "base_sha": self.refs().get("refs/heads/main", "0" * 40),
                "open": True, "labels": [], "association": "CONTRIBUTOR", **changes,
            }  # fmt: skip
            self.comments.setdefault(number, [])
        return number

    def add_comment(self, number: int, author: str, body: str) -> dict[str, Any]:
        with self.lock:
            made = forms.comment(self.repository, 5000 + self._number(), number, author, body)
            self.comments.setdefault(number, []).append(made)
        return made

    def add_runner(self, name: str, *labels: str, online: bool = True) -> None:
        self.runners.append(forms.runner(len(self.runners) + 1, name, list(labels), online))

    def add_run(self, title: str, status: str = "in_progress") -> None:
        """A run of a workflow under way."""
        self.runs.append(forms.workflow_run(self._number(), self.repository, title, status))

    def fail(self, method: str, pattern: str, **fault: Any) -> None:
        """Script a fault for requests whose path (below /repos/OWNER/NAME) matches a pattern."""
        self.faults.append(Fault(method, pattern, **fault))

    def event(self, number: int, action: str = "opened", **more: Any) -> dict[str, Any]:
        """The payload of pull_request_target."""
        return {
            "action": action,
            "number": number,
            "pull_request": forms.pull(self.pulls[number]),
            "repository": forms.repository(self.repository),
            "sender": forms.user(self.pulls[number]["author"]),
            **more,
        }

    def comment_event(self, number: int, author: str, body: str) -> dict[str, Any]:
        """The payload of issue_comment; the comment is there, too."""
        made = self.add_comment(number, author, body)
        of_pull = {"issue": {**forms.issue(self.pulls[number]), "pull_request": {"url": ""}}}
        return {
            "action": "created",
            **of_pull,
            "comment": made,
            "repository": forms.repository(self.repository),
            "sender": forms.user(author),
        }

    def refs(self) -> dict[str, str]:
        """The branches of the git side."""
        if self.bare is None:
            return {}
        listed = subprocess.run(
            ["git", "-C", str(self.bare), "for-each-ref", "--format=%(refname) %(objectname)"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return dict(line.split(" ", 1) for line in listed.splitlines())

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        """What GitHub would say, and the change of state."""
        with self.lock:
            if (found := self.extra.get((method, path))) is not None:
                return found
            for route_method, pattern, act in _ROUTES:
                matched = re.fullmatch(pattern, path)
                if matched and route_method == method:
                    return act(self, query, body, *matched.groups())
        return 404, _error("Not Found")

    def _number(self) -> int:
        self._next += 1
        return self._next


def _error(message: str, **more: Any) -> dict[str, Any]:
    return {"message": message, "documentation_url": "https://docs.github.test", **more}


def _missing(body: Any, *names: str) -> Answer | None:
    lacking = [n for n in names if not isinstance(body, dict) or body.get(n) in (None, "")]
    if not lacking:
        return None
    errors = [{"resource": "?", "field": name, "code": "missing_field"} for name in lacking]
    return 422, _error("Validation Failed", errors=errors)


def _list_pulls(fake: FakeGitHub, query: dict[str, str], body: Any) -> Answer:
    state, head = query.get("state", "open"), query.get("head")
    chosen = [
        p for p in fake.pulls.values()
        if state == "all" or p["open"] == (state == "open")
        if head in (None, f"{p['head_repo'].partition('/')[0]}:{p['head_ref']}")
    ]  # fmt: skip
    return 200, [forms.pull(p) for p in chosen]


def _make_pull(fake: FakeGitHub, query: dict[str, str], body: Any) -> Answer:
    if (wrong := _missing(body, "title", "head", "base")) is not None:
        return wrong
    owner, _, ref = body["head"].rpartition(":")
    name = fake.repository.partition("/")[2]
    repository = f"{owner}/{name}" if owner else fake.repository
    for p in fake.pulls.values():
        if p["open"] and (p["head_repo"], p["head_ref"]) == (repository, ref):
            text = f"A pull request already exists for {owner}:{ref}."
            return 422, _error("Validation Failed", errors=[{"message": text}])
    number = fake.open_pull(
        owner or fake.repository.partition("/")[0],
        head_sha=fake.refs().get(f"refs/heads/{ref}", "1" * 40),
        title=body["title"], body=body.get("body"), head_repo=repository, head_ref=ref,
        draft=body.get("draft", False), created_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )  # fmt: skip
    return 201, forms.pull(fake.pulls[number])


def _get_pull(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    found = fake.pulls.get(int(number))
    return (404, _error("Not Found")) if found is None else (200, forms.pull(found))


def _change_pull(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    found = fake.pulls.get(int(number))
    if found is None:
        return 404, _error("Not Found")
    if body.get("state") not in (None, "open", "closed"):
        return 422, _error("Validation Failed")
    if "state" in body:
        found["open"] = body["state"] == "open"
    found.update({k: body[k] for k in ("title", "body") if k in body})
    return 200, forms.pull(found)


def _list_comments(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    found = fake.comments.get(int(number))
    return (404, _error("Not Found")) if found is None else (200, found)


def _make_comment(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    if int(number) not in fake.comments:
        return 404, _error("Not Found")
    if (wrong := _missing(body, "body")) is not None:
        return wrong
    if len(body["body"]) > 65536:
        return 422, _error("Validation Failed: body is too long (maximum is 65536 characters)")
    return 201, fake.add_comment(int(number), BOT, body["body"])


def _change_comment(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    for comments in fake.comments.values():
        for found in comments:
            if found["id"] == int(number):
                if found["user"]["login"] != BOT:
                    return 403, _error("Resource not accessible by integration")
                found["body"] = body["body"]
                return 200, found
    return 404, _error("Not Found")


def _list_issues(fake: FakeGitHub, query: dict[str, str], body: Any) -> Answer:
    wanted = set(filter(None, query.get("labels", "").split(",")))
    state = query.get("state", "open")
    return 200, [
        forms.issue(i) for i in fake.issues.values()
        if wanted <= set(i["labels"]) and (state == "all" or i["open"] == (state == "open"))
    ]  # fmt: skip


def _make_issue(fake: FakeGitHub, query: dict[str, str], body: Any) -> Answer:
    if (wrong := _missing(body, "title")) is not None:
        return wrong
    number = fake._number()
    fake.issues[number] = {
        "number": number, "title": body["title"], "body": body.get("body", ""), "author": BOT,
        "repository": fake.repository, "open": True, "labels": list(body.get("labels", ())),
        "association": "NONE",
    }  # fmt: skip
    fake.comments[number] = []
    return 201, forms.issue(fake.issues[number])


def _change_issue(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    found = fake.issues.get(int(number))
    if found is None:
        return 404, _error("Not Found")
    if "state" in body:
        found["open"] = body["state"] == "open"
    found.update({k: body[k] for k in ("title", "body") if k in body})
    return 200, forms.issue(found)


def _labelled(fake: FakeGitHub, number: str) -> dict[str, Any] | None:
    return fake.pulls.get(int(number)) or fake.issues.get(int(number))


def _add_labels(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    if (found := _labelled(fake, number)) is None:
        return 404, _error("Not Found")
    if (wrong := _missing(body, "labels")) is not None:
        return wrong
    found["labels"] += [name for name in body["labels"] if name not in found["labels"]]
    return 200, [forms.label(name) for name in found["labels"]]


def _drop_label(
    fake: FakeGitHub, query: dict[str, str], body: Any, number: str, name: str
) -> Answer:
    found, name = _labelled(fake, number), unquote(name)
    if found is None or name not in found["labels"]:
        return 404, _error("Label does not exist")
    found["labels"].remove(name)
    return 200, [forms.label(other) for other in found["labels"]]


def _permission(fake: FakeGitHub, query: dict[str, str], body: Any, login: str) -> Answer:
    return 200, forms.collaborator(login, fake.permissions.get(login, "read"))


def _make_check(fake: FakeGitHub, query: dict[str, str], body: Any) -> Answer:
    if (wrong := _missing(body, "name", "head_sha")) is not None:
        return wrong
    fake.checks.append(forms.check_run(9000 + fake._number(), body))
    return 201, fake.checks[-1]


def _change_check(fake: FakeGitHub, query: dict[str, str], body: Any, number: str) -> Answer:
    for at, found in enumerate(fake.checks):
        if found["id"] == int(number):
            kept = {k: found[k] for k in ("head_sha", "name", "external_id", "started_at")}
            fake.checks[at] = forms.check_run(int(number), {**kept, **body})
            return 200, fake.checks[at]
    return 404, _error("Not Found")


def _list_checks(fake: FakeGitHub, query: dict[str, str], body: Any, ref: str) -> Answer:
    found = [
        c for c in fake.checks
        if c["head_sha"] == ref and query.get("check_name") in (None, c["name"])
    ]  # fmt: skip
    return 200, {"total_count": len(found), "check_runs": found}


def _list_runners(fake: FakeGitHub, query: dict[str, str], body: Any) -> Answer:
    return 200, {"total_count": len(fake.runners), "runners": fake.runners}


def _dispatch(fake: FakeGitHub, query: dict[str, str], body: Any, workflow: str) -> Answer:
    if (wrong := _missing(body, "ref")) is not None:
        return wrong
    fake.dispatches.append({"workflow": workflow, **body})
    return 204, None


def _runs(fake: FakeGitHub, query: dict[str, str], body: Any, workflow: str) -> Answer:
    found = [r for r in fake.runs if query.get("status") in (None, r["status"])]
    return 200, {"total_count": len(found), "workflow_runs": found}


def _matching(fake: FakeGitHub, query: dict[str, str], body: Any, prefix: str) -> Answer:
    return 200, [
        forms.git_ref(fake.repository, ref, sha)
        for ref, sha in sorted(fake.refs().items())
        if ref.startswith(f"refs/{prefix}")
    ]


def _get_repository(fake: FakeGitHub, query: dict[str, str], body: Any) -> Answer:
    return 200, forms.repository(fake.repository)


_ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("GET", "", _get_repository),
    ("GET", "pulls", _list_pulls),
    ("POST", "pulls", _make_pull),
    ("GET", r"pulls/(\d+)", _get_pull),
    ("PATCH", r"pulls/(\d+)", _change_pull),
    ("GET", r"issues/(\d+)/comments", _list_comments),
    ("POST", r"issues/(\d+)/comments", _make_comment),
    ("PATCH", r"issues/comments/(\d+)", _change_comment),
    ("GET", "issues", _list_issues),
    ("POST", "issues", _make_issue),
    ("PATCH", r"issues/(\d+)", _change_issue),
    ("POST", r"issues/(\d+)/labels", _add_labels),
    ("DELETE", r"issues/(\d+)/labels/([^/]+)", _drop_label),
    ("GET", r"collaborators/([^/]+)/permission", _permission),
    ("POST", "check-runs", _make_check),
    ("PATCH", r"check-runs/(\d+)", _change_check),
    ("GET", r"commits/([^/]+)/check-runs", _list_checks),
    ("GET", "actions/runners", _list_runners),
    ("POST", r"actions/workflows/([^/]+)/dispatches", _dispatch),
    ("GET", r"actions/workflows/([^/]+)/runs", _runs),
    ("GET", r"git/matching-refs/(.+)", _matching),
)
_LISTS = ("check_runs", "runners", "workflow_runs")  # inside an object
_TEMPLATES = (  # what stands in a path → its name in GitHub's description, the more special first
    (r"issues/comments/\d+", "issues/comments/{comment_id}"),
    (r"issues/\d+", "issues/{issue_number}"),
    (r"pulls/\d+", "pulls/{pull_number}"),
    (r"(labels)/[^/]+", r"\1/{name}"),
    (r"check-runs/\d+", "check-runs/{check_run_id}"),
    (r"commits/[^/]+/", "commits/{ref}/"),
    (r"collaborators/[^/]+/", "collaborators/{username}/"),
    (r"workflows/[^/]+/", "workflows/{workflow_id}/"),
    (r"matching-refs/.+", "matching-refs/{ref}"),
    (r"environments/[^/]+", "environments/{environment_name}"),
    (r"actions/variables/[^/]+", "actions/variables/{name}"),
    (r"rulesets/\d+", "rulesets/{ruleset_id}"),
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeGitHub

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        split = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(split.query).items()}
        prefix = f"/repos/{self.fake.repository}"
        path = split.path.removeprefix(prefix).strip("/") if split.path.startswith(prefix) else None
        body = json.loads(raw) if raw else None
        self.fake.tokens.append(self.headers.get("authorization", ""))
        fault = self._fault(split.path if path is None else path)
        if fault is not None and fault.delay_s:
            time.sleep(fault.delay_s)
        if fault is not None and not fault.cut:
            status, found = fault.status, _error(fault.message)
        elif path is None:
            status, found = self.fake.extra.get((self.command, split.path), (404, _error("?")))
        else:
            status, found = self.fake.answer(self.command, path, query, body)
        headers = dict(fault.headers) if fault is not None else {}
        found = self._page(found, query, headers) if self.command == "GET" else found
        self._keep(path, query, body, status, found, scripted=fault is not None)
        self._send(status, found, headers, cut=fault is not None and fault.cut)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _serve

    def _fault(self, path: str) -> Fault | None:
        with self.fake.lock:
            for fault in self.fake.faults:
                if fault.method == self.command and re.fullmatch(fault.pattern, path):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.fake.faults.remove(fault)
                    return fault
        return None

    def _page(self, found: Any, query: dict[str, str], headers: dict[str, str]) -> Any:
        key = next((k for k in _LISTS if isinstance(found, dict) and k in found),
                   None)  # fmt: skip
        items = found[key] if key else found
        if not isinstance(items, list) or "/git/matching-refs/" in self.path:  # which has no pages
            return found
        size = min(int(query.get("per_page", "30")), self.fake.page_size)
        start = size * (int(query.get("page", "1")) - 1)
        if start + size < len(items):
            headers["link"] = f'<{self.fake.url}{self.path}>; rel="next"'
        part = items[start : start + size]
        return {**found, key: part} if key else part

    def _keep(self, path: str | None, query: Any, body: Any, status: int, found: Any,
              *, scripted: bool) -> None:  # fmt: skip
        template = f"/{path or ''}".rstrip("/")
        for pattern, name in _TEMPLATES:
            template = re.sub(f"(?<=/){pattern}", name, template)
        template = f"/repos/{{owner}}/{{repo}}{template}" if path is not None else self.path
        with self.fake.lock:
            self.fake.exchanges.append(
                Exchange(self.command, self.path, template, query, body, status,
                         json.loads(json.dumps(found)), scripted)
            )  # fmt: skip

    def _send(self, status: int, found: Any, headers: dict[str, str], *, cut: bool) -> None:
        if status == 0:
            self.close_connection = True
            return
        content = b"" if found is None else json.dumps(found).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if content:
            self.send_header("content-type", "application/json; charset=utf-8")
        shown = content[: len(content) // 2] if cut else content
        self.send_header("content-length", str(len(shown)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that did not want to wait
            self.wfile.write(shown)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@contextlib.contextmanager
def serve(repository: str = "owner/name", bare: Path | None = None) -> Iterator[FakeGitHub]:
    """The service, until the context ends."""
    fake = FakeGitHub(repository, bare)
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
