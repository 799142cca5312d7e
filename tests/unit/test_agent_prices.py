# SPDX-License-Identifier: MIT
"""What requests cost, by hand."""

from __future__ import annotations

import pytest

from agent.config import MODEL, SUMMARY_MODEL, ConfigurationError
from agent.prices import Usage, load_prices

TABLE = """
as_of = "2027-01-01"
source = "our contract"
[models.house-model]
input = 1.0
output = 10.0
cache_read = 0.1
cache_write_5m = 2.0
cache_write_1h = 4.0
"""


def test_every_kind_of_token_has_its_price():
    usage = Usage(
        input=1000, cache_read=50_000, cache_write_5m=2000, cache_write_1h=3000, output=4000
    )
    by_hand = 1000 * 4 + 50_000 * 0.2 + 2000 * 5 + 3000 * 8 + 4000 * 20
    prices = load_prices()
    assert prices.usd(usage, asked=MODEL, answered=MODEL) == pytest.approx(by_hand / 1e6)
    assert prices.usd(usage, asked=MODEL, answered=f"{MODEL}-20260922") == pytest.approx(
        by_hand / 1e6
    )
    assert usage.prompt == 56_000


def test_a_long_prompt_is_dearer_as_a_whole():
    price = load_prices().of(SUMMARY_MODEL)
    assert price.usd(Usage(input=100_000, output=1000)) == pytest.approx(0.0105)
    assert price.usd(Usage(input=60_000, cache_read=40_001, output=1000)) == pytest.approx(
        (60_000 * 0.5 + 40_001 * 0.05 + 1000 * 2.5) / 1e6
    )


@pytest.mark.parametrize("model", [MODEL, SUMMARY_MODEL])
@pytest.mark.parametrize(("long_lived", "rest"), [(0, 10), (3000, 40_000), (20_000, 90_000)])
def test_the_ceiling_is_above_whatever_is_cached(model, long_lived, rest):
    price = load_prices().of(model)
    most = price.ceiling_usd(long_lived=long_lived, rest=rest, output=500)
    split = {"cache_write_1h": long_lived, "output": 500}
    for kind in ("input", "cache_read", "cache_write_5m"):
        assert price.usd(Usage(**{**split, kind: rest})) <= most + 1e-12
        assert price.usd(Usage(**{kind: rest + long_lived, "output": 500})) <= most + 1e-12


def test_an_unknown_price_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ConfigurationError, match=r'no price for model "?.house-model.*prices = '):
        load_prices().of("house-model")
    (tmp_path / "p.toml").write_text(TABLE)
    prices = load_prices(tmp_path / "p.toml")
    assert prices.of("house-model").usd(Usage(cache_write_1h=1_000_000)) == 4.0
    assert prices.of(MODEL).input == 4.0  # the shipped table lies below
    assert (prices.as_of, prices.source) == ("2027-01-01", "our contract")
    assert prices.digest != load_prices().digest


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("input = 1.0", "models.house-model.output = None is no price"),
        ("input = -1.0", "models.house-model.input = -1.0"),
        ("inptu = 1.0", "models.house-model: unknown inptu"),
        ("input = true", "models.house-model.input = True"),
        ("input = nan", "models.house-model.input = nan"),
    ],
)
def test_an_odd_table_names_file_and_key(tmp_path, line, wrong):
    (tmp_path / "p.toml").write_text(f"[models.house-model]\n{line}\n")
    with pytest.raises(ConfigurationError, match="p.toml") as caught:
        load_prices(tmp_path / "p.toml")
    assert wrong in str(caught.value)


def test_the_shipped_table_is_dated_and_names_its_source():
    prices = load_prices()
    assert prices.as_of.startswith("2026-")
    assert prices.source.startswith("https://platform.claude.com/")
    for name in (MODEL, SUMMARY_MODEL):
        price = prices.of(name)
        assert price.cache_read < price.input < price.cache_write_5m < price.cache_write_1h
