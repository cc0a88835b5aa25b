"""State files that a disk damaged: what stands before the damage is kept, and the rest is said."""

import json
import logging

import pytest

from autotune.config import Config
from autotune.state import Cache
from autotune.tuning.search.storage import journal
from autotune.tuning.search.study import Search
from autotune.tuning.session.crash_log import Crash, CrashLog

LISTS = {"A": (1, 2, 4, 8), "B": (16, 32)}
CONFIGS = [Config(A=a, B=b) for a in LISTS["A"] for b in LISTS["B"]]


def opened(path):
    search = Search(journal(path), "p", LISTS, 0)
    search.set_feasible(CONFIGS)
    return search


@pytest.fixture
def whole(tmp_path):
    """A journal of six finished trials."""
    search = opened(tmp_path / "x.log")
    for config in search.ask(6):
        search.tell(config, {"us": float(config["A"])})
    return tmp_path / "x.log"


def with_outcome(line, outcome):
    return json.dumps({**json.loads(line), "user_attr": {"outcome": outcome}}).encode()


DAMAGES = {
    "zeros": lambda line: b"\0" * 40,
    "cut": lambda line: line[: len(line) // 2],
    "list": lambda line: b"[]",
    "deep": lambda line: b"[" * 100_000,
    "no operation": lambda line: b"{}",
    "unknown operation": lambda line: line.replace(b'"op_code":', b'"op_code":9'),
    "outcome is no JSON": lambda line: with_outcome(line, '{"us": 1.'),
    "outcome is a list": lambda line: with_outcome(line, "[]"),
    "carriage return": lambda line: b"{\r}",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("last", [False, True])
def test_lines_before_the_damage_are_kept(whole, damage, last, caplog):
    before = opened(whole).outcomes
    lines = whole.read_bytes().splitlines()
    outcomes = [number for number, line in enumerate(lines) if b'"outcome"' in line]
    number = outcomes[-1] if last else outcomes[3]
    lines = lines[: number + 1] if last else lines
    lines[number] = damage(lines[number])
    damaged = b"\n".join(lines) + b"\n"
    whole.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        found = opened(whole).outcomes
    assert list(found.items()) == list(before.items())[: 5 if last else 3]
    aside = whole.with_name("x.log.damaged")
    assert aside.read_bytes() == damaged
    (said,) = caplog.messages
    assert f"{whole}: line {number + 1} is damaged" in said
    assert str(aside) in said
    caplog.clear()
    again = opened(whole)
    for config in again.ask(len(CONFIGS)):
        again.tell(config, {"us": 1.0})
    assert set(opened(whole).outcomes) == set(CONFIGS)
    assert not caplog.messages


@pytest.mark.parametrize("field", ["user_attrs", "system_attrs", "params", "distributions"])
def test_a_new_trial_whose_field_is_no_mapping_is_damage(whole, field):
    lines = whole.read_bytes().splitlines()
    number = max(number for number, line in enumerate(lines) if b'"op_code":4' in line)
    lines[number] = json.dumps({**json.loads(lines[number]), field: 7}).encode()
    whole.write_bytes(b"\n".join(lines[: number + 1]) + b"\n")
    opened(whole)
    assert whole.with_name("x.log.damaged").exists()


def test_a_second_damage_keeps_the_first_file(whole):
    for ending in ("damaged", "damaged-2"):
        whole.write_bytes(whole.read_bytes() + b"\0\n")
        opened(whole)
        assert whole.with_name(f"x.log.{ending}").read_bytes().endswith(b"\0\n")


def test_an_undamaged_journal_is_not_set_aside(whole, caplog):
    assert len(opened(whole).outcomes) == 6
    with whole.open("ab") as file:
        file.write(b'{"op_code": 4, "torn')
    assert len(opened(whole).outcomes) == 6
    assert sorted(path.name for path in whole.parent.glob("x.log*")) == ["x.log"]
    assert not caplog.messages


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\xff\xfe", b'{"us": 1', b"[1]", b"[" * 100_000])
def test_a_damaged_result_is_made_again(tmp_path, content):
    cache = Cache(tmp_path)
    cache.put({"us": 1.0}, "a")
    (path,) = tmp_path.glob("*/*.json")
    path.write_bytes(content)
    assert cache.get("a") is None
    cache.put({"us": 2.0}, "a")
    assert cache.get("a") == {"us": 2.0}


def test_damaged_lines_of_the_crash_log_are_left_out(tmp_path):
    crash = Crash("k", "s", "t", "m=1", "B=1", "measure", "hang", "r")
    log = CrashLog(tmp_path, "h100")
    log.add(crash)
    (path,) = tmp_path.glob("crash_log/*")
    path.write_bytes(b"\0\n" + b"[" * 100_000 + b"\n\xff\n" + path.read_bytes())
    assert CrashLog(tmp_path, "h100").find(*crash.where) == crash
