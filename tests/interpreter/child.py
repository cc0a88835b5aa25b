"""Collects the tests of a folder, then runs those whose names come on stdin: `child.py ANSWERS ROOT FOLDER`.

Each line of stdin is a JSON object with `test` and `following`, a name or null. Reports go to the file descriptor
ANSWERS, one JSON object a line, and `null` ends those of one test.
"""

import json
import os
import sys

import pytest


class Served:
    """A plugin of pytest that runs what it is asked for."""

    def __init__(self, questions, answers):
        self.questions, self.answers = questions, answers

    def say(self, data):
        print(json.dumps(data), file=self.answers, flush=True)

    def pytest_runtestloop(self, session):
        items = {item.nodeid: item for item in session.items}
        for line in self.questions:
            asked = json.loads(line)
            item, following = items[asked["test"]], items.get(asked["following"])
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self.say(None)
        return True

    def pytest_runtest_logreport(self, report):
        self.say(self.config.hook.pytest_report_to_serializable(config=self.config, report=report))

    def pytest_configure(self, config):
        self.config = config


if __name__ == "__main__":
    answers, root, folder = sys.argv[1:]
    # Of a copy of stdin: pytest puts /dev/null in its place.
    with os.fdopen(os.dup(0), encoding="utf-8") as questions, os.fdopen(int(answers), "w", encoding="utf-8") as pipe:
        options = ["-m", "", "-p", "no:cacheprovider", f"--rootdir={root}", folder]
        sys.exit(pytest.main(options, plugins=[Served(questions, pipe)]))
