from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from file_server import FileServer

from profi import download as module
from profi.download import Remote, download
from profi.types import UserError

BODY = random.Random(0).randbytes(3_000_000)


def remote(server: FileServer, body: bytes = BODY, **changes: Any) -> Remote:
    """What the server should serve as /file.bin."""
    server.files.setdefault("/file.bin", body)
    values = {
        "url": f"{server.url}/file.bin",
        "algorithm": "sha256",
        "hexdigest": hashlib.sha256(body).hexdigest(),
        "size": len(body),
    }
    return Remote(**{**values, **changes})


def fetch(source: Remote, path: Path, calls: list[tuple[int, int | None]] | None = None) -> None:
    def progress(done: int, total: int | None) -> None:
        if calls is not None:
            calls.append((done, total))

    download(source, path, remedy="set data.x", progress=progress, timeout=5.0, pause=0.01)


def starts(server: FileServer) -> list[int]:
    return [start for _, start in server.requests]


@pytest.mark.parametrize("size", [len(BODY), None], ids=["size known", "size unknown"])
def test_a_whole_file_arrives_with_progress(
    server: FileServer, tmp_path: Path, size: int | None
) -> None:
    calls: list[tuple[int, int | None]] = []
    fetch(remote(server, size=size), tmp_path / "deep" / "a.bin", calls)
    assert (tmp_path / "deep" / "a.bin").read_bytes() == BODY
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "a.bin"]
    assert calls[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert len(server.requests) == 1


def test_cut_connections_are_resumed_where_they_broke_off(
    server: FileServer, tmp_path: Path
) -> None:
    server.drops, server.drop_after = 2, 1_000_000
    fetch(remote(server), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert starts(server) == [0, 1_000_000, 2_000_000]


def test_more_cuts_than_tries_are_fine_while_each_brings_something(
    server: FileServer, tmp_path: Path
) -> None:
    server.drops, server.drop_after = 10, 200_000
    fetch(remote(server), tmp_path / "a.bin")
    assert len(server.requests) == 11
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_later_call_goes_on_with_what_an_earlier_one_left(
    server: FileServer, tmp_path: Path
) -> None:
    server.drops, server.drop_after = 1, 1_200_000
    source = remote(server)

    def give_up(done: int, _total: int | None) -> None:
        if done >= 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(source, tmp_path / "a.bin", remedy="", progress=give_up)
    assert not (tmp_path / "a.bin").exists()
    (left,) = tmp_path.iterdir()
    length = left.stat().st_size
    assert 1_000_000 <= length < len(BODY)
    server.drops = 0
    fetch(source, tmp_path / "a.bin")
    assert starts(server) == [0, length]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_server_without_ranges_starts_anew(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.drops, server.drop_after = False, 2, 1_000_000
    fetch(remote(server), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert starts(server) == [0, 1_000_000, 1_000_000]


def test_a_server_that_always_starts_anew_and_breaks_off_is_given_up(
    server: FileServer, tmp_path: Path
) -> None:
    server.ranges, server.drops, server.drop_after = False, 100, 1_000_000
    with pytest.raises(UserError, match=r"file\.bin cannot be fetched \(the connection was cut\)"):
        fetch(remote(server), tmp_path / "a.bin")
    # The first brings something new, the others do not.
    assert len(server.requests) == 1 + module.TRIES


def changing_etags() -> Iterator[str]:
    return (f'"{number}"' for number in count())


@pytest.mark.parametrize("honest", [True, False])
def test_another_file_meanwhile_is_not_appended(
    server: FileServer, tmp_path: Path, honest: bool
) -> None:
    """If-Range makes an honest server send it whole; another one is found out by its ETag."""
    server.drops, server.drop_after, server.etags = 1, 1_000_000, changing_etags()
    server.if_range = honest
    fetch(remote(server), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert starts(server) == ([0, 1_000_000] if honest else [0, 1_000_000, 0])


def test_the_longest_of_several_leftovers_is_gone_on_with(
    server: FileServer, tmp_path: Path
) -> None:
    for i, length in enumerate((10, 2_000_000, 500)):
        (tmp_path / f".a.bin.{i}.part").write_bytes(BODY[:length])
    fetch(remote(server), tmp_path / "a.bin")
    assert starts(server) == [2_000_000]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_leftover_of_another_file_is_found_out_by_the_hash(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / ".a.bin.0.part").write_bytes(b"x" * 1_000_000)
    fetch(remote(server), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert starts(server) == [1_000_000, 0]


@pytest.mark.parametrize("surplus", [0, 7])
def test_a_leftover_that_is_too_long_or_whole(
    server: FileServer, tmp_path: Path, surplus: int
) -> None:
    (tmp_path / ".a.bin.0.part").write_bytes(BODY + b"x" * surplus)
    fetch(remote(server), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    # A whole one needs no connection at all.
    assert starts(server) == ([0] if surplus else [])


def test_a_refused_range_starts_anew(server: FileServer, tmp_path: Path) -> None:
    """416, for a file of unknown size."""
    (tmp_path / ".a.bin.0.part").write_bytes(BODY + b"xx")
    fetch(remote(server, size=None), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert starts(server) == [len(BODY) + 2, 0]


def test_wrong_bytes_are_refused_and_nothing_stays(server: FileServer, tmp_path: Path) -> None:
    server.files["/file.bin"] = b"y" * len(BODY)
    with pytest.raises(UserError, match=r"serves a file with sha256 .* set data\.x") as caught:
        fetch(remote(server), tmp_path / "a.bin")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_bytes_in_pieces_are_fetched_twice_and_no_more(
    server: FileServer, tmp_path: Path
) -> None:
    server.files["/file.bin"] = b"y" * len(BODY)
    server.drops, server.drop_after = 100, 1_600_000
    with pytest.raises(UserError, match="serves a file with sha256"):
        fetch(remote(server), tmp_path / "a.bin")
    assert starts(server) == [0, 1_600_000] * 2


@pytest.mark.parametrize("length", [True, False], ids=["with length", "without length"])
@pytest.mark.parametrize("size", [1000, len(BODY) + 1000])
def test_another_size_is_refused(
    server: FileServer, tmp_path: Path, size: int, length: bool
) -> None:
    server.files["/file.bin"] = b"z" * size
    server.length = length
    with pytest.raises(UserError, match=r"serves a file (of|with) .*set data\.x"):
        fetch(remote(server), tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_another_total_of_a_range_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.drops, server.drop_after, server.total = 1, 1000, 77
    with pytest.raises(UserError, match="a file of 77 bytes, not of 3000000"):
        fetch(remote(server), tmp_path / "a.bin")


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_refusal_is_told_at_once(server: FileServer, tmp_path: Path, code: int) -> None:
    server.statuses = [code]
    with pytest.raises(UserError, match=rf"file\.bin answers {code} .*: set data\.x"):
        fetch(remote(server), tmp_path / "a.bin")
    assert len(server.requests) == 1


def test_a_passing_failure_passes(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    fetch(remote(server), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert len(server.requests) == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_no_network_names_the_address_and_the_setting(tmp_path: Path, host: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://{host}:{port}/x.zip"
    with pytest.raises(UserError, match=r"x\.zip cannot be fetched \(.*\): set data\.x") as caught:
        fetch(Remote(url, "md5", "0"), tmp_path / "a.bin")
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/x"
        with pytest.raises(UserError, match="timed out"):
            download(
                Remote(url, "md5", "0"),
                tmp_path / "a",
                remedy="",
                progress=lambda _done, _total: None,
                timeout=0.1,
                pause=0.01,
            )
