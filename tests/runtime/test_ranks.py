"""Ranks with different tables are told: through the store of the process group, without waiting for one another."""

import logging
import multiprocessing

import pytest

from autotune import ranks

torch = pytest.importorskip("torch")


class Told(logging.Handler):
    def __init__(self):
        super().__init__(logging.ERROR)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def run(rank, folder, hashes, pipe, turns):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(hashes)
    )
    handler = Told()
    logging.getLogger("autotune.ranks").addHandler(handler)
    turns[rank].wait(60)  # one after another: nobody waits for a rank that has not come
    for _ in range(2):
        ranks.compare("gemm/x on h200", lambda: hashes[rank])
    turns[rank + 1].set()
    pipe.send((rank, handler.messages))
    turns[-1].wait(60)  # a process group ends for all
    torch.distributed.destroy_process_group()


def messages(folder, hashes):
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    turns = [fork.Event() for _ in range(len(hashes) + 1)]
    jobs = [fork.Process(target=run, args=(rank, folder, hashes, theirs, turns)) for rank in range(len(hashes))]
    for job in jobs:
        job.start()
    turns[0].set()
    found = dict(ours.recv() for _ in jobs)
    for job in jobs:
        job.join()
    return found


def test_rank_with_another_table_is_told_once(tmp_path):
    found = messages(tmp_path, ["aa", "bb"])
    assert found[0] == []
    (said,) = found[1]
    assert "rank 1 has table bb, but rank 0 has aa" in said


def test_ranks_with_equal_tables_say_nothing(tmp_path):
    assert messages(tmp_path, ["aa", "aa"]) == {0: [], 1: []}


def test_nothing_is_asked_without_a_process_group():
    ranks.compare("gemm/y on h200", lambda: pytest.fail("the hash is not needed"))
