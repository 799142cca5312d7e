# SPDX-License-Identifier: MIT
"""GitHub's answers in full, as its published description asks for; values that nobody reads are
fillers."""

from __future__ import annotations

from typing import Any

STARTED = "2026-01-01T00:00:00Z"
_USER_URLS = (
    "avatar", "events", "followers", "following", "gists", "html", "organizations",
    "received_events", "repos", "starred", "subscriptions",
)  # fmt: skip
_REPOSITORY_URLS = (
    "archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare",
    "contents", "contributors", "deployments", "downloads", "events", "forks", "git_commits",
    "git_refs", "git_tags", "hooks", "html", "issue_comment", "issue_events", "issues", "keys",
    "labels", "languages", "merges", "milestones", "notifications", "pulls", "releases",
    "stargazers", "statuses", "subscribers", "subscription", "tags", "teams", "trees", "clone",
    "git", "mirror", "ssh", "svn",
)  # fmt: skip
_PULL_URLS = (
    "comments", "commits", "diff", "html", "issue", "patch", "review_comment", "review_comments",
    "statuses",
)  # fmt: skip
_ISSUE_URLS = ("comments", "events", "html", "labels", "repository")
_LINKS = (
    "comments", "commits", "statuses", "html", "issue", "review_comments", "review_comment", "self",
)  # fmt: skip


def user(login: str) -> dict[str, Any]:
    url = f"https://api.github.test/users/{login}"
    return {
        **_urls(_USER_URLS, url),
        "gravatar_id": "",
        "id": _number(login),
        "node_id": f"U_{login}",
        "login": login,
        "site_admin": False,
        "type": "Bot" if login.endswith("[bot]") else "User",
        "url": url,
    }


def collaborator(login: str, permission: str) -> dict[str, Any]:
    role = permission
    base = {"maintain": "write", "triage": "read"}.get(permission, permission)
    found = None if base == "none" else {**user(login), "role_name": role}
    return {"permission": base, "role_name": role, "user": found}


def repository(name: str, private: bool = False) -> dict[str, Any]:
    owner, _, short = name.partition("/")
    url = f"https://api.github.test/repos/{name}"
    flags = ("fork", "archived", "disabled", "has_wiki", "has_pages", "has_discussions")
    counts = (
        "forks", "forks_count", "open_issues", "open_issues_count", "size", "stargazers_count",
        "watchers", "watchers_count", "network_count", "subscribers_count",
    )  # fmt: skip
    return {
        **_urls(_REPOSITORY_URLS, url),
        **dict.fromkeys(flags, False),
        **dict.fromkeys(("has_downloads", "has_issues", "has_projects"), True),
        **dict.fromkeys(counts, 0),
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), STARTED),
        **dict.fromkeys(("description", "homepage", "language", "license"), None),
        "full_name": name,
        "id": _number(name),
        "node_id": f"R_{short}",
        "name": short,
        "owner": user(owner),
        "private": private,
        "url": url,
        "default_branch": "main",
    }


def pull(state: dict[str, Any]) -> dict[str, Any]:
    """`state`: number, title, body, author, head_repo, head_ref, head_sha, base_sha, repository,
    open, merged, labels, association."""
    url = f"https://api.github.test/repos/{state['repository']}/pulls/{state['number']}"
    merged = bool(state.get("merged"))
    return {
        **_urls(_PULL_URLS, url),
        **dict.fromkeys(("additions", "deletions", "comments", "review_comments"), 0),
        **dict.fromkeys(("commits", "changed_files"), 1),
        **dict.fromkeys(("assignee", "milestone", "auto_merge", "merged_by"), None),
        "_links": {name: {"href": f"{url}/{name}"} for name in _LINKS},
        "labels": [_pull_label(name) for name in state["labels"]],
        "head": _side(state["head_repo"], state["head_ref"], state["head_sha"]),
        "base": _side(state["repository"], state["base_ref"], state["base_sha"]),
        "body": state["body"],
        "closed_at": None if state["open"] else STARTED,
        "created_at": state.get("created_at", STARTED),
        "updated_at": STARTED,
        "id": 1000 + state["number"],
        "node_id": f"PR_{state['number']}",
        "merge_commit_sha": None,
        "merged_at": STARTED if merged else None,
        "merged": merged,
        "mergeable": None,
        "mergeable_state": "unknown",
        "maintainer_can_modify": False,
        "number": state["number"],
        "state": "open" if state["open"] else "closed",
        "locked": False,
        "draft": bool(state.get("draft")),
        "title": state["title"],
        "url": url,
        "user": user(state["author"]),
        "author_association": state["association"],
    }


def issue(state: dict[str, Any]) -> dict[str, Any]:
    """`state`: number, title, body, author, repository, open, labels, association."""
    url = f"https://api.github.test/repos/{state['repository']}/issues/{state['number']}"
    return {
        **_urls(_ISSUE_URLS, url),
        "assignee": None,
        "milestone": None,
        "closed_at": None if state["open"] else STARTED,
        "comments": 0,
        "id": 2000 + state["number"],
        "node_id": f"I_{state['number']}",
        "labels": [label(name) for name in state["labels"]],
        "number": state["number"],
        "state": "open" if state["open"] else "closed",
        "locked": False,
        "title": state["title"],
        "body": state["body"],
        "url": url,
        "user": user(state["author"]),
        "created_at": STARTED,
        "updated_at": STARTED,
        "author_association": state["association"],
    }


def comment(repository_name: str, number: int, issue_number: int, author: str, body: str) -> dict:
    url = f"https://api.github.test/repos/{repository_name}/issues/comments/{number}"
    return {
        "id": number,
        "node_id": f"IC_{number}",
        "url": url,
        "html_url": url,
        "issue_url": f"https://api.github.test/repos/{repository_name}/issues/{issue_number}",
        "user": user(author),
        "created_at": STARTED,
        "updated_at": STARTED,
        "body": body,
        "author_association": "NONE",
    }


def label(name: str) -> dict[str, Any]:
    return {
        "id": _number(name),
        "node_id": f"L_{_number(name)}",
        "url": f"https://api.github.test/labels/{_number(name)}",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
    }


def check_run(number: int, body: dict[str, Any]) -> dict[str, Any]:
    url = f"https://api.github.test/check-runs/{number}"
    said = body.get("output", {})
    output = {key: said.get(key) for key in ("title", "summary", "text")}
    return {
        "id": number,
        "node_id": f"CR_{number}",
        "head_sha": body["head_sha"],
        "name": body["name"],
        "url": url,
        "html_url": url,
        "details_url": body.get("details_url", url),
        "status": body.get("status", "queued"),
        "conclusion": body.get("conclusion"),
        "started_at": body.get("started_at", STARTED),
        "completed_at": STARTED if body.get("conclusion") else None,
        "external_id": body.get("external_id", ""),
        "check_suite": {"id": 1},
        "output": {**output, "annotations_count": 0, "annotations_url": f"{url}/annotations"},
        "app": None,
        "pull_requests": [],
    }


def runner(number: int, name: str, labels: list[str], online: bool = True) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "os": "linux",
        "status": "online" if online else "offline",
        "busy": False,
        "labels": [{"name": text, "type": "custom"} for text in labels],
    }


def workflow_run(number: int, name: str, title: str, status: str) -> dict[str, Any]:
    url = f"https://api.github.test/repos/{name}/actions/runs/{number}"
    return {
        **_urls(("jobs", "logs", "check_suite", "cancel", "rerun", "artifacts", "workflow"), url),
        **dict.fromkeys(("created_at", "updated_at"), STARTED),
        "id": number,
        "node_id": f"WFR_{number}",
        "head_branch": "main",
        "run_number": number,
        "display_title": title,
        "event": "workflow_dispatch",
        "status": status,
        "conclusion": "success" if status == "completed" else None,
        "head_sha": "0" * 40,
        "path": ".github/workflows/gate.yml",
        "workflow_id": 1,
        "url": url,
        "html_url": url,
        "head_commit": None,
        "head_repository": repository(name),
        "repository": repository(name),
        "pull_requests": [],
    }


def git_ref(repository_name: str, ref: str, sha: str) -> dict[str, Any]:
    url = f"https://api.github.test/repos/{repository_name}/git/{ref}"
    return {
        "ref": ref,
        "node_id": f"RF_{sha[:8]}",
        "url": url,
        "object": {"type": "commit", "sha": sha, "url": url},
    }


def _side(name: str, ref: str, sha: str) -> dict[str, Any]:
    owner = name.partition("/")[0]
    return {
        "label": f"{owner}:{ref}",
        "ref": ref,
        "sha": sha,
        "user": user(owner),
        "repo": repository(name),
    }


def _pull_label(name: str) -> dict[str, Any]:
    return {**label(name), "description": ""}


def _urls(names: tuple[str, ...], url: str) -> dict[str, str]:
    return {f"{name}_url": f"{url}/{name}" for name in names}


def _number(text: str) -> int:
    return 1 + sum(ord(c) * (i + 1) for i, c in enumerate(text))
