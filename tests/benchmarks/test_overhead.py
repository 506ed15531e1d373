from __future__ import annotations

import re

import pytest

from benchmarks import overhead


def test_it_measures_the_shipped_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "--model shipped:cpu/inpaint --size 64 --steps 2 --count 2 --repeats 1 --batch 2"
    monkeypatch.setattr("sys.argv", ["overhead", "--device", "cpu", *given.split()])
    overhead.main()
    printed = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"of 50 steps (\S+) %", printed)]
    assert len(shares) == 2
    assert all(0.0 < share < 100.0 for share in shares)
