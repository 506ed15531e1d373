"""Mistakes on the command line, and what was meant."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException

from profi.cli.run import one_line
from profi.cli.words import check_words, closest, quoting, suggestion
from profi.types import UserError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--experiment", "table2"], "write experiment=table2"),
        (["--seed", "3"], "write seed=3"),
        (["--seed=3"], "write seed=3"),
        (["--data-limit", "8"], "write data.limit=8"),
        (["-s", "3"], "settings have no dashes"),
        (["table2"], "table2: write experiment=table2"),
        (["profi"], "profi: write ablation=profi"),
        (["stage"], "write name=value"),
        (["data.limit", "=", "8"], "write data.limit=8 without spaces"),
        (
            ["ablation=[base,profi]"],
            r"several are ablations=\[base,profi\]",
        ),
        (["+reading=[paper,released]"], "several are a sweep, -m reading=paper,released"),
        (["model=[mini,sd15]"], "a sweep, -m model=mini,sd15"),
    ],
)
def test_a_word_that_hydra_does_not_take_is_refused_with_the_remedy(
    words: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_words(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-m", "seed=0,1", "ablation=base,profi"],
        ["experiment=table2", "seeds=[0,1]", "ablations=[base,profi]", "++own.x.y=[1,2]"],
        ["--cfg", "job"],
        ["-cd", "folder", "seed=1"],
        ["--help"],
        ["~models", "~data.limit"],
        ["hydra/launcher=slurm", "hydra.launcher.partition=gpu"],
    ],
)
def test_what_hydra_takes_passes(words: list[str]) -> None:
    check_words(words)


def test_the_closest_key_is_found_by_its_end_or_its_letters() -> None:
    keys = ["data.limit", "model.device", "seed", "seeds", "clip.path", "accuracy.path"]
    assert closest("limit", keys) == "data.limit"
    assert closest("model.devcie", keys) == "model.device"
    assert closest("sed", keys) == "seed"
    assert closest("data.device", keys) == "model.device"
    assert closest("completely", keys) is None


def test_hydra_s_messages_get_a_suggestion_where_there_is_one() -> None:
    unknown = "Could not override 'limit': Key 'limit' not in 'Config'"
    assert suggestion(unknown) == "; did you mean data.limit?"
    choice = "In 'config': Could not find 'experiment/tabel2' Available options"
    assert suggestion(choice) == "; did you mean experiment=table2?"
    assert suggestion("Error merging") == ""
    assert "quote" in quoting("LexerNoViableAltException: a=b~c ^")
    assert quoting("Key 'limit' not in 'Config'") == ""


def test_the_parser_s_own_words_are_left_out() -> None:
    shown = one_line(HydraException("LexerNoViableAltException: a.b=x~y\n        ^"))
    assert shown == "a.b=x~y cannot be read"
