from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from cluster import Slurm, missing_programs, slurm


@pytest.fixture(scope="session")
def cluster() -> Iterator[Slurm]:
    missing = missing_programs()
    if missing or os.geteuid():
        pytest.fail(f"needs root and Slurm (missing: {missing}): make test-slurm", pytrace=False)
    # A CI that gives up sends SIGTERM, which would leave the daemons behind.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))
    with slurm() as running:
        yield running
