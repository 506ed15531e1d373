from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from file_server import FileServer, serving

from profi.types import UserError
from profi.weights import UNREADABLE, Inert, read_checkpoint, verified_file

BYTES = bytes(range(256)) * 5000
HASH = hashlib.sha256(BYTES).hexdigest()
KEY = "metric.aesthetic.path"
NAME = "weights.pth"


@pytest.fixture
def server():
    with serving() as served:
        served.files = {f"/{name}": BYTES for name in (NAME, "..%2F..%2Fevil.pth")}
        yield served


def url(server: FileServer, path: str = NAME) -> str:
    return f"{server.url}/{path}"


def shown(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("sha256", [HASH, HASH[:8], HASH.upper()])
def test_a_file_is_downloaded_once(server, tmp_path, sha256):
    path = verified_file(url(server), sha256, KEY, tmp_path)
    assert path.read_bytes() == BYTES
    assert verified_file(url(server), sha256, KEY, tmp_path) == path
    assert len(server.requests) == 1
    # A copy that was damaged since is not taken.
    path.write_bytes(BYTES[:-1])
    assert verified_file(url(server), sha256, KEY, tmp_path).read_bytes() == BYTES
    assert len(server.requests) == 2


def test_the_cache_is_the_users(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = verified_file(url(server), HASH, KEY)
    assert path.parent == tmp_path / "profi" / "weights"


@pytest.mark.parametrize(
    ("path", "sha256", "error"),
    [
        (NAME, "0" * 64, rf"sha256 {HASH}, not 0+.*metric\.aesthetic\.path=\.\.\."),
        (NAME, "0" * 8, rf"sha256 {HASH}, not 0+"),
        ("nothing.pth", HASH, r"404.*metric\.aesthetic\.path=\.\.\."),
        (NAME, None, r"metric\.aesthetic\.sha256"),
        (NAME, "abc", r"metric\.aesthetic\.sha256=abc"),
        (NAME, "g" * 64, r"metric\.aesthetic\.sha256"),
    ],
)
def test_what_is_not_the_file_is_one_line_and_leaves_nothing(server, tmp_path, path, sha256, error):
    with pytest.raises(UserError, match=error) as caught:
        verified_file(url(server, path), sha256, KEY, tmp_path)
    assert "\n" not in str(caught.value)
    assert shown(tmp_path) == []


def test_a_name_in_a_url_stays_in_the_folder(server, tmp_path):
    path = verified_file(url(server, "..%2F..%2Fevil.pth"), HASH, KEY, tmp_path)
    assert path.parent == tmp_path


def test_local_files(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(BYTES)
    assert verified_file(str(path), None, KEY) == path
    assert verified_file(str(path), HASH[:10], KEY) == path
    with pytest.raises(UserError, match=rf"another file.*metric\.aesthetic\.sha256={HASH}"):
        verified_file(str(path), "0" * 8, KEY)
    with pytest.raises(UserError, match="no such file"):
        verified_file(str(tmp_path / "absent"), None, KEY)


class Log:
    """What an old checkpoint holds besides its tensors."""

    def __init__(self, history: np.ndarray) -> None:
        self.history = history
        self.read = np.mean


def test_a_checkpoints_logs_are_read_as_nothing(tmp_path):
    weights = torch.arange(6.0).reshape(2, 3)
    logs = {"loss": Log(np.arange(3)), "best": np.float64(2.0)}
    torch.save({"state_dict": {"a": weights}, "logs": logs}, tmp_path / "old.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "old.pth", weights_only=True)
    found = read_checkpoint(tmp_path / "old.pth")
    torch.testing.assert_close(found["state_dict"]["a"], weights)
    assert isinstance(found["logs"]["loss"], Inert)
    # Nothing stays allowed.
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "old.pth", weights_only=True)


class Command:
    """Unpickles by calling."""

    def __init__(self, call: object, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call, self.args


def test_a_checkpoints_commands_are_not_obeyed(tmp_path):
    sentinel = tmp_path / "ran"
    commands = {
        "system": Command(os.system, f"touch {sentinel}"),
        "eval": Command(eval, f"open({str(sentinel)!r}, 'w')"),
        "open": Command(open, str(sentinel), "w"),
        "method": Command(getattr, Path(sentinel), "touch"),
    }
    for name, command in commands.items():
        path = tmp_path / f"{name}.pth"
        torch.save({"state_dict": {"a": torch.ones(1)}, "x": command}, path)
        try:
            found = read_checkpoint(path)
        except UNREADABLE:
            continue
        assert isinstance(found["x"], Inert), name
    assert not sentinel.exists()
    # The same files do obey a plain load.
    torch.load(tmp_path / "open.pth", weights_only=False)
    assert sentinel.exists()


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({"a": 1})])
def test_what_is_no_checkpoint_raises_the_documented_errors(tmp_path, content):
    path = tmp_path / "no.pth"
    path.write_bytes(content)
    with pytest.raises(UNREADABLE):
        read_checkpoint(path)
