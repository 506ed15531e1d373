"""What the training script tells the real W&B, offline."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from profi.settings.method import Sampling
from profi.types import UserError

pytest.importorskip("wandb")
pytestmark = pytest.mark.usefixtures("wandb_home")
TRAINING = ["cpu=yes", "steps=2", "batch=2", "pool=2", "save_every=1", "wandb=tests"]


@pytest.fixture
def script(load_script, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    AcceleratorState._reset_state(reset_partial_state=True)
    module = load_script("train_smartbrush")
    quick = partial(module.ValidationSheets, sampling=Sampling(2))
    monkeypatch.setattr(module, "ValidationSheets", quick)
    return module


def test_a_resumed_training_goes_on_in_its_run(
    script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    from wandb_files import sessions

    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = [f"work={tmp_path}", "pictures=1", "show_every=2", *TRAINING]
    script.main(arguments)
    shutil.rmtree(tmp_path / "checkpoint-2")
    time.sleep(1.1)  # W&B names a session's folder by the second.
    AcceleratorState._reset_state(reset_partial_state=True)
    script.main(arguments)
    first, again = sessions(tmp_path)
    assert first.run_id == again.run_id == (tmp_path / "wandb-id").read_text().strip()
    for session in (first, again):
        assert (session.project, session.exit_code) == ("tests", 0)
        assert session.config["rate"] == 6e-4
        assert session.config["pool"] == 2
        assert session.over("_step") == [2]
        (loss,) = session.over("diffusion")
        assert loss > 0
        (picture,) = session.over("validation")
        assert picture["_type"] == "image-file"


@pytest.mark.parametrize(
    ("key", "message"), [("", "nobody is logged in.*wandb login"), ("short", "wandb login")]
)
def test_who_is_not_logged_in_is_told_so_and_not_asked(
    script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, message: str
) -> None:  # type: ignore[no-untyped-def]
    """On a terminal, where W&B would ask for a key and wait; before anything is fetched."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)

    def asked(*_: object) -> str:
        raise AssertionError("the keyboard was asked, or a model was fetched")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr(script, "from_hub", asked)
    coco = ["data=coco", "captions=0", f"work={tmp_path}", *TRAINING]
    with pytest.raises(UserError, match=message) as raised:
        script.main(coco)
    assert "\n" not in str(raised.value)
