"""How tests are shared out when several processes run them (`make test`; see WORKERS there).

A file stays together: its tests share servers, and in one process they may follow each other. Only
where every test starts from nothing and takes its time are they dealt out one by one. The order of
the command line is kept, so that the quick ones still come first.
"""

from __future__ import annotations

import pytest

try:
    from xdist.scheduler import LoadFileScheduling
except ModuleNotFoundError:  # pytest alone, without -n
    LoadFileScheduling = object

ONE_BY_ONE = ("tests/chaos/",)


class ByFile(LoadFileScheduling):
    """`--dist loadfile`, in the order given, with the slow independent tests dealt out singly."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(ONE_BY_ONE) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile | None:
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return ByFile(config, log)
