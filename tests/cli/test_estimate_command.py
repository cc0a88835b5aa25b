"""`autotune estimate`: its tables, its JSON, and what it refuses."""

import json

import pytest

from autotune.cli import main
from autotune.estimate import step_times as stage


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
    monkeypatch.setattr(stage, "SAMPLE", 2)


def test_tables_fit_and_tell_published_figure(capsys):
    words = ["estimate", "--device", "mi355x", "--compare", "b200", "--concurrency", "64", "--published", "960"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    for part in (
        "decode step",
        "sparse attention, decode",
        "all-reduce: attention and",
        "b200",
        "$1.48",
        "960 tok/s/GPU",
    ):
        assert part in text


def test_model_that_does_not_fit_is_told(capsys):
    assert main(["estimate", "--device", "h100", "--concurrency", "8"]) == 0
    text = capsys.readouterr().out
    assert "This DOES NOT FIT into h100" in text
    assert max(map(len, text.splitlines())) <= 100


def test_json_has_ranges_and_own_price(capsys):
    words = ["estimate", "--device", "b200", "--concurrency", "8", "--price", "3", "--published", "100", "--json"]
    assert main(words) == 0
    (point,) = json.loads(capsys.readouterr().out)
    least, value, most = (point["throughput"]["tokens_per_s_per_gpu"][end] for end in ("least", "value", "most"))
    assert least < value < most
    assert point["usd_per_million_tokens"]["value"] == pytest.approx(3 * 1e6 / 3600 / value)
    assert point["published"]["tokens_per_s_per_gpu"] == 100
    assert point["tier"] == "modeled"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--concurrency", "0"], "--concurrency must list positive integers up to 1000000, such as 16,64; got '0'"),
        (["--concurrency", "8;9"], "--concurrency must list positive integers"),
        (["--concurrency", ","], "--concurrency must list positive integers"),
        (["--concurrency", "\u00b2"], "--concurrency must list positive integers"),
        (["--price", "-1"], "--price must be a positive number, got -1.0"),
        (["--published", "nan"], "--published must be a positive number, got nan"),
        (["--price", "inf"], "--price must be a positive number, got inf"),
        (["--compare", "no_such"], "unknown device 'no_such'"),
        (["--scenario", "9k9k"], "unknown scenario '9k9k'"),
        (["--tp", "3"], "128 attention heads cannot be split 3 ways"),
    ],
)
def test_bad_input_names_option_and_rule(options, message, capsys):
    assert main(["estimate", "--device", "mi355x", *options]) == 2
    assert message in capsys.readouterr().err
