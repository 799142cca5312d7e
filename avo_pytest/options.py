# SPDX-License-Identifier: MIT
"""All scoring options: one table, parsed once into a frozen value.

Each has a twin in `[tool.avo]` of pyproject.toml; the command line wins. `avo score` offers the
same table without the prefix.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import shares

TARGETS = ("auto", "cpu", "sm80", "sm90", "sm100")
MODES = ("measure", "screen", "confirm")
REGIMES = ("refreshed", "sustained")
NONCE = "AVO_NONCE"  # in the environment
UsageError = pytest.UsageError  # for those who are no part of pytest
TABLES_OF_OTHERS = frozenset({"agent", "gates", "kernels", "policy"})  # of [tool.avo], not options


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for. None means that the judge decides."""

    score: bool = False
    kernel: str | None = None
    target: str = "auto"
    device: str | None = None
    devices: tuple[str, ...] = ()
    share: str = ""
    candidate: str | None = None
    incumbent: str | None = None
    set: str | None = None
    configuration: str | None = None
    baselines: tuple[str, ...] | None = None
    blocks: int | None = None
    seed: int | None = None
    threads: int | None = None
    mode: str = "measure"
    regime: str = "refreshed"
    timeout: float = 20.0
    twin: bool = False
    json: Path | None = None
    exit_verdict: bool = False
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. `parse` takes the text and raises ValueError naming what is allowed."""

    name: str
    metavar: str | None  # None: a switch
    help: str
    parse: Callable[[str], Any] = str

    @property
    def flag(self) -> str:
        return "--avo-" + self.name.replace("_", "-")

    @property
    def dest(self) -> str:
        return f"avo_{self.name}"


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return text

    return parse


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) <= 0:
        raise ValueError("seconds, more than 0")
    return float(text)


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) >= 1 << 63:
        raise ValueError("a whole number from 0 to 2^63 - 1")
    return int(text)


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("not empty")
    return text


def _file(text: str) -> Path:
    path = Path(_text(text))
    if path.is_dir() or not next(p for p in path.absolute().parents if p.exists()).is_dir():
        raise ValueError("the path of a file that can be written")
    return path


def _names(text: str) -> tuple[str, ...] | None:
    if text == "all":
        return None
    names = tuple(part.strip() for part in text.split(",")) if text != "none" else ()
    if not all(names):
        raise ValueError("all, none, or names separated by commas")
    return names


def _devices(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ValueError("devices separated by commas, such as cuda:0,cuda:1")
    return names


def _share(text: str) -> str:
    return shares.text(*shares.parse(text))


def _nonce(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", text):
        raise ValueError("1 to 128 letters, digits, or _ . : -")
    return text


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


TABLE = (
    Option(
        "score",
        None,
        "judge a kernel: all correctness checks, then throughput against incumbent and baselines; "
        "runs bench/<kernel> when no path is given",
        _switch,
    ),
    Option("kernel", "NAME", "folder of kernels/ and bench/ (default: the only one)", _text),
    Option(
        "target",
        "TARGET",
        "auto, cpu, sm80, sm90 or sm100 (auto: the newest that exists and runs here)",
        _one_of(*TARGETS),
    ),
    Option("device", "DEVICE", "cpu, cuda or cuda:N (default: the first that fits)", _text),
    Option(
        "devices",
        "DEVICES",
        "cuda:0,cuda:1,...: share the replicates of a confirm out to several GPUs of one model",
        _devices,
    ),
    Option(
        "share",
        "K/N",
        "run the K-th of N shares of a confirm, each on a machine of its own with the same "
        "--avo-nonce; `avo merge` puts them together (default: 1/1, all of it)",
        _share,
    ),
    Option(
        "candidate",
        "PATH|REF",
        "what to judge: a folder or a git reference (default: the working tree)",
        _text,
    ),
    Option(
        "incumbent",
        "PATH|REF|none",
        "what to compare with (default: main, origin/main or origin/HEAD)",
        _text,
    ),
    Option("set", "NAME", "throughput set of the problem, e.g. mha or gqa (default: first)", _text),
    Option("configuration", "GLOB", "only these configurations; the run is then a SUBSET", _text),
    Option("baselines", "NAMES", "all, none, or names separated by commas (default: all)", _names),
    Option("blocks", "N", "how many blocks to measure: more blocks, narrower intervals", _count),
    Option("seed", "N", "replay the random configurations, inputs and orders of a run", _seed),
    Option("threads", "N", "threads of CPU kernels and baselines (default: all cores)", _count),
    Option(
        "mode",
        "MODE",
        "measure (default): time candidate, incumbent and baselines; screen: is it worth a "
        "confirm? confirm: screen, then decide with fresh processes",
        _one_of(*MODES),
    ),
    Option(
        "regime",
        "REGIME",
        "refreshed (default): fresh inputs, a busy device; sustained: after 0.25 s of the same arm",
        _one_of(*REGIMES),
    ),
    Option("timeout", "SECONDS", "longest launch of a kernel (default: 20)", _seconds),
    Option(
        "twin",
        None,
        "also time the candidate's code loaded a second time: their ratio is pure noise",
        _switch,
    ),
    Option("json", "PATH", "also write the record (raw samples and environment) here", _file),
    Option(
        "exit_verdict",
        None,
        "exit with the verdict: 0 PROMOTE, 10 REJECT, 11 INCONCLUSIVE (as every measurement), "
        "12 INCORRECT, 13 INVALID or not measurable, 14 NO-CHANGE",
        _switch,
    ),
    Option(
        "nonce",
        "TEXT",
        "kept in the record, for whoever asked to know his answer again (default: $AVO_NONCE)",
        _nonce,
    ),
)


def add(parser: pytest.Parser) -> None:
    """Declare the options to pytest; their values stay text until `parse`."""
    group = parser.getgroup("avo", "kernels judged by correctness and throughput (avo-pytest)")
    for option in TABLE:
        if option.metavar is None:
            group.addoption(
                option.flag, dest=option.dest, action="store_const", const="true", help=option.help
            )
        else:
            group.addoption(option.flag, dest=option.dest, metavar=option.metavar, help=option.help)


def parse(given: Mapping[str, str | None], root: Path) -> Options:
    """Options from the command line (`name → text`) over `[tool.avo]` under `root`.

    Raises pytest.UsageError naming the option and what is allowed.
    """
    values: dict[str, Any] = {}
    table = _table(root / "pyproject.toml")
    for option in TABLE:
        text, source = given.get(option.name), option.flag
        if text is None and option.name == "nonce" and os.environ.get(NONCE):
            text, source = os.environ[NONCE], NONCE
        if text is None and option.name in table:
            text, source = _as_text(table[option.name]), f"[tool.avo] {option.name}"
        if text is None:
            continue
        try:
            values[option.name] = option.parse(text)
        except ValueError as error:
            raise pytest.UsageError(f"{source}: {text!r} is not allowed: {error}") from None
    return Options(**values)


def from_config(config: pytest.Config) -> Options:
    """Options of a pytest run."""
    given = {option.name: config.getoption(option.dest) for option in TABLE}
    return parse(given, config.rootpath)


def _table(path: Path) -> Mapping[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("avo", {})
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise pytest.UsageError(f"{path.name}: {error}") from None
    known = {field.name for field in fields(Options)} - {"score"}
    for key in table:
        if key not in known | TABLES_OF_OTHERS:
            raise pytest.UsageError(
                f"{path.name}: [tool.avo] {key}: unknown; allowed are {', '.join(sorted(known))}"
            )
    return {key: value for key, value in table.items() if key in known}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return str(value)
