# SPDX-License-Identifier: MIT
"""GitHub's REST interface, as little of it as a gate needs, on httpx2.

A call returns what GitHub said or raises GitHubError. After limits of rate, 5xx, timeouts and
cut answers it is repeated; but a POST, which creates something, only after a limit of rate, where
GitHub has certainly done nothing.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import httpx2

API_URL = "https://api.github.com"
VERSION = "2022-11-28"
TRIES = 5
LONGEST_WAIT_S = 60.0  # of one; a limit that lasts longer is an error, not a job that hangs
TIMEOUT_S = 30.0
MOST_PAGES = 50
MOST_BYTES = 32 << 20
SAFE = ("GET", "PATCH", "PUT", "DELETE")  # twice is as good as once
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}/[A-Za-z0-9_.-]{1,100}")
TOKEN = re.compile(r"[!-~]*")  # what a header may hold


class GitHubError(Exception):
    """GitHub refused or could not be asked. `status` is 0 where there was no answer."""

    def __init__(self, method: str, path: str, status: int, message: str) -> None:
        self.method, self.path, self.status, self.message = method, path, status, message
        said = f"HTTP {status}" if status else "no answer"
        super().__init__(f"{method} {path}: {said}: {message}")


@dataclass(frozen=True, slots=True)
class GitHub:
    """One repository (`owner/name`) as one token may see it."""

    repository: str
    token: str = field(default="", repr=False)
    api_url: str = API_URL
    timeout_s: float = TIMEOUT_S
    wait: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repository):
            raise GitHubError("GET", "/", 0, f"{self.repository!r} is no OWNER/NAME")
        if not TOKEN.fullmatch(self.token):
            raise GitHubError("GET", "/", 0, "the token holds characters that no header may hold")

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> GitHub:
        """As a job finds it: GITHUB_REPOSITORY, GITHUB_TOKEN, GITHUB_API_URL."""
        given = os.environ if environment is None else environment
        return GitHub(
            given.get("GITHUB_REPOSITORY", ""),
            given.get("GITHUB_TOKEN", "").strip(),
            given.get("GITHUB_API_URL") or API_URL,
        )

    def get(self, path: str, **query: str | int) -> Any:
        """The answer's JSON. A path without a leading slash is below the repository."""
        return self._call("GET", path, query=query)[0]

    def find(self, path: str, **query: str | int) -> Any | None:
        """The same; None for 404."""
        try:
            return self.get(path, **query)
        except GitHubError as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create something; the answer's JSON, or None where there is none."""
        return self._call("POST", path, body=body)[0]

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something."""
        return self._call("PATCH", path, body=body)[0]

    def delete(self, path: str) -> None:
        """Remove something; what is gone already is no error."""
        try:
            self._call("DELETE", path)
        except GitHubError as error:
            if error.status != 404:
                raise

    def pages(self, path: str, *, key: str = "", **query: str | int) -> Iterator[Any]:
        """Every item of a list, over all its pages; `key` where the list is inside an object."""
        asked: Mapping[str, str | int] = {"per_page": 100, **query}
        for number in range(1, MOST_PAGES + 1):
            answer, more = self._call("GET", path, query={**asked, "page": number})
            items = answer.get(key) if key and isinstance(answer, dict) else answer
            if not isinstance(items, list):
                raise GitHubError("GET", path, 200, f"a list was expected, not {_short(answer)}")
            yield from items
            if not more:
                return
        raise GitHubError("GET", path, 200, f"more than {MOST_PAGES} pages")

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[Any, bool]:
        """The JSON and whether there is a next page."""
        import httpx2

        where = path if path.startswith("/") else f"/repos/{self.repository}/{path}".rstrip("/")
        error = GitHubError(method, where, 0, "never asked")
        with httpx2.Client(timeout=self.timeout_s, follow_redirects=False) as client:
            for attempt in range(TRIES):
                answer: httpx2.Response | None = None
                try:
                    answer = client.request(
                        method, self.api_url.rstrip("/") + quote(where), params=query,
                        json=body, headers=self._headers(),
                    )  # fmt: skip
                    found = _read(method, where, answer)
                    return found, 'rel="next"' in answer.headers.get("link", "")
                except httpx2.HTTPError as lost:
                    said = f"{type(lost).__name__}: {lost}".rstrip(": ")
                    error = GitHubError(method, where, 0, said)
                except GitHubError as refused:
                    error = refused
                pause = _pause(error, answer, attempt)
                if pause is None or attempt + 1 == TRIES:
                    raise error
                self.wait(pause)
        raise error

    def _headers(self) -> dict[str, str]:
        fixed = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": VERSION,
            "User-Agent": "avo-pytest",
        }
        return fixed | ({"Authorization": f"Bearer {self.token}"} if self.token else {})


def _read(method: str, path: str, answer: httpx2.Response) -> Any:
    """The JSON of a success. Raises GitHubError."""
    if len(answer.content) > MOST_BYTES:
        raise GitHubError(method, path, answer.status_code, f"more than {MOST_BYTES >> 20} MiB")
    if not answer.is_success:
        raise GitHubError(method, path, answer.status_code, _message(answer))
    if not answer.content:
        return None
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise GitHubError(method, path, 0, f"an answer that is no JSON ({error})") from error


def _message(answer: httpx2.Response) -> str:
    """GitHub's own words, with the fields it objects to."""
    try:
        found = json.loads(answer.content)
        details = [json.dumps(e, sort_keys=True) for e in found.get("errors") or ()]
        return _short(" ".join([str(found["message"]), *details]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _short(answer.text) or answer.reason_phrase


def _pause(error: GitHubError, answer: Any, attempt: int) -> float | None:
    """Seconds to wait before the next try; None where that is of no use, or would do harm."""
    headers = answer.headers if answer is not None else {}
    limited = error.status == 429 or (
        error.status == 403
        and (
            "retry-after" in headers
            or headers.get("x-ratelimit-remaining") == "0"
            or "rate limit" in error.message.lower()
        )
    )
    if not limited and (error.method not in SAFE or not (error.status == 0 or error.status >= 500)):
        return None
    pause = _told(headers) if limited else 0.0
    pause = max(pause, 0.5 * 2**attempt)
    return pause if pause <= LONGEST_WAIT_S else None


def _told(headers: Mapping[str, str]) -> float:
    """What GitHub asks to wait: `retry-after` in seconds, else until the limit is reset."""
    try:
        if "retry-after" in headers:
            return max(0.0, float(headers["retry-after"]))
        if headers.get("x-ratelimit-remaining") == "0":
            return max(0.0, float(headers["x-ratelimit-reset"]) - time.time())
    except (KeyError, ValueError):
        pass
    return 1.0


def _short(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    return text if len(text) <= 300 else text[:299] + "…"
