"""Reports that the process of this folder sends of its tests arrive as they were."""

import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_skip_that_crossed_the_pipe_has_its_place_and_reason(request):
    config = request.config
    (bridge,) = [
        plugin
        for plugin in config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(HERE / "conftest.py")
    ]
    skip = pytest.TestReport("test", ("test", 1, "test"), {}, "skipped", ("file.py", 1, "reason"), "setup")
    data = json.loads(json.dumps(config.hook.pytest_report_to_serializable(config=config, report=skip)))
    assert bridge.report_of(config, data).longrepr == ("file.py", 1, "reason")
