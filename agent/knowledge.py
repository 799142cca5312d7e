# SPDX-License-Identifier: MIT
"""K, the domain knowledge: folders of pages, found by words (SQLite's FTS5, ranked by BM25).

Markdown is cut at its headings, other text into stretches of lines, so that a folder of reference
kernels works as well as one of notes. Users add folders by `[tool.avo.agent] knowledge = [...]`.
"""

from __future__ import annotations

import difflib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from agent.config import ConfigurationError

OURS = Path(__file__).parent / "knowledge"
SUFFIXES = {".md", ".txt", ".rst", ".cu", ".cuh", ".h", ".hpp", ".c", ".cpp", ".py", ".ptx", ".s"}
MOST_BYTES = 1_000_000  # of a file: larger ones are data, not pages
MOST_CHARACTERS = 3000  # of a hit: a longer section is cut at a paragraph
MOST_LINES = 60  # of a hit in a file without headings
WEIGHTS = (
    "0, 4.0, 3.0, 1.0, 0"  # page, title, heading, text, source: a heading says what it is about
)
HEADING = re.compile(r"(#{1,4})\s+(.+?)\s*#*$")
SOURCE = re.compile(r"^\**Sources?\**:\**\s*(.+?)(?=\n\n|\Z)", re.M | re.S | re.I)


class KnowledgeError(LookupError):
    """A page that is not there; the text says which there are."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A section of a page. `source`: where its facts are from, as the page itself says."""

    page: str
    heading: str
    text: str
    source: str


class Knowledge:
    """The pages of `folders`; of two pages of one name, the later folder's counts."""

    def __init__(self, folders: Sequence[Path] = (OURS,)) -> None:
        self._pages = {name: text for folder in folders for name, text in _pages(folder)}
        pages = sorted(self._pages.items())
        self._index = _index([hit for name, text in pages for hit in _sections(name, text)])

    def index(self) -> str:
        """What there is, the same text for the same folders: part of the cached prompt."""
        lines = (_described(name, self._pages[name]) for name in sorted(self._pages))
        return "\n".join(lines)

    def search(self, query: str, count: int = 5) -> list[Hit]:
        """The sections that fit best, best first; none if no word of the query is known."""
        words = re.findall(r"\w+", query.replace("_", " "))
        if not words or count < 1:
            return []
        rows = self._index.execute(
            "SELECT page, heading, text, source FROM section WHERE section MATCH ? "
            f"ORDER BY bm25(section, {WEIGHTS}), rowid LIMIT ?",
            (" OR ".join(f'"{word}"' for word in words), count),
        )
        return [Hit(*row) for row in rows]

    def page(self, name: str) -> str:
        """A whole page. Raises KnowledgeError, which names the nearest ones."""
        if name not in self._pages:
            near = difflib.get_close_matches(name, self._pages, 3, 0.4) or sorted(self._pages)[:20]
            raise KnowledgeError(f"no page {name[:80]!r}; there are: {', '.join(near)}")
        return self._pages[name]


def _pages(folder: Path) -> Iterator[tuple[str, str]]:
    """Names are paths within the folder, without `.md`."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder of knowledge; see [tool.avo.agent]")
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() not in SUFFIXES or hidden or not path.is_file():
            continue
        if path.stat().st_size <= MOST_BYTES:
            name = path.relative_to(folder).as_posix().removesuffix(".md")
            yield name, path.read_text(encoding="utf-8", errors="replace")


def _sections(name: str, text: str) -> list[Hit]:
    of_page = _source(text.split("\n## ")[0]) or name
    return [
        Hit(name, heading, piece, _source(body) or of_page)
        for heading, body in _parts(name, text)
        for piece in _pieces(body)
    ]


def _parts(name: str, text: str) -> Iterator[tuple[str, str]]:
    return _cut(text) if PurePath(name).suffix in SUFFIXES else _headed(text)


def _headed(text: str) -> Iterator[tuple[str, str]]:
    """Heading and what stands below it; a `#` within a fence is a comment, not a heading."""
    heading, fenced = "", False
    body: list[str] = []
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        found = None if fenced else HEADING.match(line)
        if found:
            yield heading, "\n".join(body).strip()
            heading, body = found[2], []
        else:
            body.append(line)
    yield heading, "\n".join(body).strip()


def _cut(text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines()
    for start in range(0, len(lines), MOST_LINES):
        stretch = lines[start : start + MOST_LINES]
        yield f"lines {start + 1}-{start + len(stretch)}", "\n".join(stretch)


def _pieces(body: str) -> Iterator[str]:
    piece = ""
    for paragraph in body.split("\n\n"):
        if piece and len(piece) + len(paragraph) > MOST_CHARACTERS:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    if piece.strip():
        yield piece


def _source(text: str) -> str:
    found = SOURCE.search(text)
    return " ".join(found[1].split()) if found else ""


def _described(name: str, text: str) -> str:
    """A Markdown page by its headings; of any other file, that it is there."""
    if PurePath(name).suffix in SUFFIXES:
        return f"- {name}: {len(text.splitlines())} lines"
    title, *rest = [heading for heading, _ in _headed(text) if heading] or [""]
    return f"- {name}: {title}" + (f" [{'; '.join(rest)}]" if rest else "")


def _index(sections: Sequence[Hit]) -> sqlite3.Connection:
    """In memory: a few hundred sections take milliseconds, and nothing can go stale."""
    index = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        index.execute(
            "CREATE VIRTUAL TABLE section USING fts5(page UNINDEXED, title, heading, text, "
            "source UNINDEXED, tokenize='porter unicode61 remove_diacritics 2')"
        )
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            f"this Python's SQLite {sqlite3.sqlite_version} has no FTS5: {error}"
        ) from error
    rows = ((h.page, _words(h.page), h.heading, h.text, h.source) for h in sections)
    index.executemany("INSERT INTO section VALUES (?, ?, ?, ?, ?)", rows)
    return index


def _words(page: str) -> str:
    return re.sub(r"[\W_]+", " ", page)
