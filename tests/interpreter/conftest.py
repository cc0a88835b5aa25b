"""Tests of this folder run kernels in Triton's interpreter, which a process must choose before it imports a kernel.

Under TRITON_INTERPRET=1 they are ordinary tests. Any other run of pytest starts one child process in that mode, asks it
for each test of the folder in turn, and shows the child's reports as its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Child:
    """A pytest in interpreter mode that has collected this folder and runs the tests that it is asked for."""

    def __init__(self, config):
        answers, theirs = os.pipe()
        command = [sys.executable, "-W", "ignore", str(HERE / "child.py"), str(theirs), str(config.rootpath), str(HERE)]
        environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
        self.output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the child
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self.output, text=True, env=environment, pass_fds=[theirs]
        )
        os.close(theirs)
        self.answers = os.fdopen(answers, encoding="utf-8")

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.answers.close()
        self.output.close()

    def reports(self, item, following):
        """Yields what pytest says of a test's setup, call and teardown; `following`: the next test, or None."""
        asked = {"test": item.nodeid, "following": following.nodeid if following else None}
        try:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        for line in self.answers:
            data = json.loads(line)
            if data is None:
                return
            yield report_of(item.config, data)
        said = f"the interpreter's process ended with {self.process.wait()} in or before this test"
        self.output.seek(0)
        said += f"; its last words:\n{self.output.read()[-3000:]}"
        location, keywords = item.location, {name: 1 for name in item.keywords}
        yield pytest.TestReport(item.nodeid, location, keywords, "failed", said, "call")


def report_of(config, data):
    """The report in what a child said; JSON made a list of the place and reason of a skip."""
    if isinstance(data.get("longrepr"), list):
        data["longrepr"] = tuple(data["longrepr"])
    return config.hook.pytest_report_from_serializable(config=config, data=data)


@cache
def child(config):
    started = Child(config)
    config.add_cleanup(started.end)
    return started


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if os.environ.get("TRITON_INTERPRET") == "1" or not item.path.is_relative_to(HERE):
        return None  # pytest asks every conftest, of whichever folder, about every test
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    following = nextitem if nextitem is not None and nextitem.path.is_relative_to(HERE) else None
    for report in child(item.config).reports(item, following):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
