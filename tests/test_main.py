"""`python -m profi`: in this process where that is enough, in one of its own where it is not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import profi
from profi.cli.paint import FORMATS, main, texts
from profi.settings.presets import DEMO_NEGATIVE, DEMO_POSITIVE
from profi.types import UserError

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is also the current one, with `image.png` and `mask.png`, 91x37."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 9, 3), dtype=np.uint8))
    small.resize((91, 37), Image.Resampling.BICUBIC).save(tmp_path / "image.png")
    mask = Image.new("L", (91, 37))
    ImageDraw.Draw(mask).ellipse((30, 5, 60, 30), fill=255)
    mask.save(tmp_path / "mask.png")
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    Image.new("L", (91, 36), 255).save(tmp_path / "small.png")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def alarm() -> Iterator[None]:
    """SIGALRM does what ctrl-C does."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def args(*more: str, out: str = "out.png", prompt: str = "a bus") -> list[str]:
    return ["image.png", "mask.png", prompt, "-o", out, "--device", "cpu", *more]


def on_a_terminal(*arguments: str, cwd: Path) -> tuple[int, str]:
    """The exit status of a process of its own, and what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "profi", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", "TERM": "xterm"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        # Read all along, or the process would wait for room; Linux ends a terminal by EIO.
        while chunk := _read(terminal):
            shown += chunk
    return process.wait(), shown.decode()


def _read(terminal: FileIO) -> bytes:
    try:
        return terminal.read(1 << 12) or b""
    except OSError:
        return b""


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_picture_is_painted_with_a_bar_on_a_terminal(files: Path) -> None:
    """The whole of it: the interpreter's `-m`, a real terminal, the shipped model."""
    options = ("--steps", "2", "--seed", "7", "--evaluation", "released")
    status, output = on_a_terminal(*args(*options), cwd=files)
    assert status == 0, output
    assert "painting" in output
    assert "2/2" in output
    image, mask = Image.open(files / "image.png"), Image.open(files / "mask.png")
    painter, choices = profi.load("mini", device="cpu"), {"steps": 2, "seed": 7}
    expected = painter(image, mask, "a bus", evaluation="released", **choices)
    got = pixels(files / "out.png")
    # Another process may add up in another order.
    assert np.abs(got - np.asarray(expected)).max() <= 1
    outside = np.asarray(mask) < 128
    assert np.array_equal(got[outside], pixels(files / "image.png")[outside])


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".jpg"])
def test_every_format_holds_the_picture(
    files: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = f"out{suffix.upper()}"
    assert main(args("--steps", "1", out=out)) == 0
    # Where there is no terminal: the file, and that mini is not for photos.
    shown = capfd.readouterr()
    assert shown.out == f"{out}\n"
    (line,) = shown.err.splitlines()
    assert line.startswith("the model mini knows only its own small pictures")
    with Image.open(files / out) as image:
        assert (image.mode, image.size) == ("RGB", (91, 37))
        assert image.format == FORMATS[suffix]["format"]
    outside = np.asarray(Image.open(files / "mask.png")) < 128
    change = np.abs(pixels(files / out) - pixels(files / "image.png"))[outside]
    assert float(change.mean()) < (3.0 if suffix == ".jpg" else 1e-9)
    assert not list(files.glob(".*"))


def test_an_existing_file_is_kept_unless_forced(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "out.png").write_text("precious", encoding="utf-8")
    assert main(args("--steps", "1")) == 2
    assert "out.png exists" in capsys.readouterr().err
    assert (files / "out.png").read_text("utf-8") == "precious"
    assert main(args("--steps", "1", "--force")) == 0
    assert pixels(files / "out.png").shape == (37, 91, 3)


def test_what_the_original_carries_survives(files: Path) -> None:
    rgba = np.dstack(
        [pixels(files / "image.png").astype(np.uint8), np.full((37, 91), 128, np.uint8)]
    )
    rgba[:, :10, 3] = 0
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 3, "my dog"
    Image.fromarray(rgba).save(files / "image.png", exif=exif, dpi=(300, 300))
    Image.open(files / "mask.png").rotate(180).save(files / "mask.png")
    assert main(args("--steps", "1", "--seed", "5", prompt="a caf\u00e9")) == 0
    with Image.open(files / "out.png") as painted:
        painted.load()
    assert painted.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert painted.getexif().get(0x010E) == "my dog"
    assert painted.getexif().get(0x0112, 1) == 1
    upright, hole = rgba[::-1, ::-1], np.asarray(Image.open(files / "mask.png")) > 127
    assert painted.mode == "RGBA"
    assert np.array_equal(np.asarray(painted)[~hole], upright[~hole])
    assert (np.asarray(painted)[hole][:, 3] == 255).all()
    facts = json.loads(painted.info["profi"])
    assert (facts["prompt"], facts["seed"], facts["model"], facts["steps"]) == (
        "a caf\u00e9", 5, "mini", 1,
    )  # fmt: skip


def test_unblended_changes_what_is_outside(files: Path) -> None:
    assert main(args("--steps", "1", "--unblended")) == 0
    outside = np.asarray(Image.open(files / "mask.png")) < 128
    assert not np.array_equal(
        pixels(files / "out.png")[outside], pixels(files / "image.png")[outside]
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["IMAGE", "PROMPT", "--help"]),
        (args("--stepz", "3"), ["--stepz"]),
        (args("--steps", "0"), ["--steps", "'0'", "1 to 1000"]),
        (args("--steps", "1e3"), ["--steps", "'1e3'"]),
        (args("--seed", "-1"), ["--seed", "'-1'"]),
        (args("--seed", str(2**32)), ["--seed", str(2**32 - 1)]),
        (args("--guidance-scale", "nan"), ["--guidance-scale", "'nan'"]),
        (args("--guidance-scale", "inf"), ["--guidance-scale", "'inf'"]),
        (args("--long-side", "4"), ["--long-side", "at least 8"]),
        (args("--ablation", "best"), ["--ablation", "best", "painta_only"]),
        (args("--reading", "mine"), ["--reading", "mine", "released"]),
        (args("--evaluation", "mine"), ["--evaluation", "mine", "ours", "released"]),
        (args("--dtype", "int8"), ["--dtype", "int8", "bfloat16"]),
        (args("--device", "tpu"), ["--device", "tpu", "cuda:N"]),
        (args("--model", "foo"), ["'foo' is unknown", "dreamshaper8"]),
        (args("--demo-texts", "--positive", "sharp"), ["--demo-texts", "--positive"]),
        (args(out="out.gif"), ["out.gif", ".png", ".jpg"]),
        (args(out="out"), ["out", ".png"]),
        (args(out="nowhere/out.png"), ["nowhere/out.png", "no folder nowhere"]),
        (args(out="image.png"), ["image.png exists", "--force"]),
        (args(prompt=" "), ["prompt is empty", "base"]),
        (["nothing.png", *args()[1:]], ["nothing.png does not exist"]),
        (["folder", *args()[1:]], ["folder is not a file"]),
    ],
    ids=lambda value: " ".join(value[4:]) or "nothing" if isinstance(value, list) else "",
)
def test_a_mistake_is_refused_in_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: list[str]
) -> None:
    before = sorted(files.iterdir())
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    (line,) = error.splitlines()
    assert line.startswith("error: ")
    for word in expected:
        assert word in line
    assert out == ""
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize(
    ("image", "mask", "expected"),
    [
        ("text.png", "mask.png", "text.png is not a readable image"),
        ("image.png", "small.png", "small.png is 91x36"),
    ],
)
def test_files_that_cannot_be_painted_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str], image: str, mask: str, expected: str
) -> None:
    assert main([image, mask, "a bus", "-o", "out.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_an_empty_mask_and_a_prompt_that_does_not_fit_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (91, 37)).save(files / "empty.png")
    assert main(["image.png", "empty.png", "a bus", "-o", "out.png"]) == 2
    assert "mask empty.png is empty" in capsys.readouterr().err
    # The embedded model takes 32 tokens.
    assert main(args("--demo-texts")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "shorten it" in line
    assert not (files / "out.png").exists()


def test_the_demo_s_texts_are_those_of_the_released_code() -> None:
    assert texts("", "", True) == (DEMO_POSITIVE, DEMO_NEGATIVE)
    assert texts("sharp", "dull", False) == ("sharp", "dull")
    assert DEMO_POSITIVE.startswith("Full HD, 4K")
    assert DEMO_NEGATIVE.split(", ")[-1] == "worst quality"
    with pytest.raises(UserError, match="leave them out"):
        texts("", "blurry", True)


def test_a_mistake_costs_no_heavy_import(files: Path) -> None:
    code = (
        "import sys; from profi.cli.paint import main; status = main(sys.argv[1:]); "
        "print(status, [m for m in ('torch', 'diffusers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args("--model", "foo")],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2 []"


@pytest.mark.usefixtures("alarm")
def test_ctrl_c_ends_it_with_130_and_no_file(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(files.iterdir())
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    assert main(args("--steps", "1000")) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(files.iterdir()) == before
