"""What a painter tells while it paints, and how it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from painter_pictures import array, disc, picture, same_outside
from PIL import Image

import profi


def test_the_last_preview_is_the_picture_and_only_previews_cost(painter: profi.Painter) -> None:
    decoded: list[int] = []
    counter = painter.backbone.vae.decoder.register_forward_hook(lambda *_: decoded.append(1))
    previews: list[Image.Image] = []
    calls: list[tuple[int, int]] = []

    def callback(step: int, total: int, preview: Callable[[], Image.Image]) -> None:
        calls.append((step, total))
        if step >= 2:
            previews.append(preview())

    with counter:
        image, mask = picture(91, 37), disc(91, 37)
        painted = painter(image, mask, "cat", steps=3, callback=callback)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert len(decoded) == 3
    # The last step's x0_pred is the result.
    assert np.array_equal(array(previews[-1]), array(painted))
    assert previews[0].size == painted.size
    assert same_outside(previews[0], image, mask)
    assert not np.array_equal(array(previews[0]), array(painted))


def test_previews_of_a_list_have_the_form_of_its_answer(painter: profi.Painter) -> None:
    sizes = [(48, 48), (48, 20), (48, 48)]
    seen: list[list[Image.Image | None]] = []
    progress: list[tuple[int, int]] = []
    painted = painter(
        [picture(*size) for size in sizes],
        [disc(*size) for size in sizes],
        "cat",
        steps=2,
        callback=lambda _step, _total, preview: seen.append(preview()),
        progress=lambda done, total: progress.append((done, total)),
    )
    # The first and the third are of one size, so the second one waits.
    assert [[p is None for p in pictures] for pictures in seen[:2]] == [[False, True, False]] * 2
    assert not any(p is None for p in seen[2])
    assert progress == [(i, 4) for i in (1, 2, 3, 4)]
    for last, one in zip(seen[-1], painted, strict=True):
        assert last is not None
        assert np.array_equal(array(last), array(one))


@pytest.mark.parametrize("how", ["event", "function"])
def test_cancelled_in_the_middle_it_leaves_nothing_behind(painter: profi.Painter, how: str) -> None:
    image, mask = picture(48, 48), disc(48, 48)
    before = array(painter(image, mask, "cat", steps=4))
    processors = dict(painter.backbone.unet.attn_processors)
    event = threading.Event()
    calls: list[int] = []

    def progress(done: int, _total: int) -> None:
        calls.append(done)
        if done == 2:
            event.set()

    cancel = event if how == "event" else event.is_set
    with pytest.raises(profi.Cancelled, match="step 2 of 4"):
        painter(image, mask, "cat", steps=4, progress=progress, cancel=cancel)
    assert calls == [1, 2]
    assert painter.backbone.unet.attn_processors == processors
    hooks = [m for m in painter.backbone.unet.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert hooks == []
    assert np.array_equal(array(painter(image, mask, "cat", steps=4)), before)
    with pytest.raises(profi.Cancelled, match="step 0 of 4"):
        painter(image, mask, "cat", steps=4, cancel=event)


def test_an_error_of_the_callback_leaves_nothing_behind(painter: profi.Painter) -> None:
    image, mask = picture(48, 48), disc(48, 48)
    before = array(painter(image, mask, "cat", steps=2))

    def fail(step: int, total: int, preview: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        painter(image, mask, "cat", steps=2, callback=fail)
    assert np.array_equal(array(painter(image, mask, "cat", steps=2)), before)


def test_two_threads_do_not_disturb_each_other(painter: profi.Painter) -> None:
    image, mask = picture(48, 48), disc(48, 48)
    expected = [array(painter(image, mask, "cat", steps=3, ablation=a)) for a in ("profi", "base")]
    got: dict[int, np.ndarray] = {}

    def paint(i: int) -> None:
        got[i] = array(painter(image, mask, "cat", steps=3, ablation=("profi", "base")[i]))

    threads = [threading.Thread(target=paint, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(got[i], expected[i]) for i in (0, 1))


def test_progress_true_is_quiet_where_there_is_no_terminal(
    painter: profi.Painter, capfd: pytest.CaptureFixture[str]
) -> None:
    painter(picture(48, 48), disc(48, 48), "cat", steps=1, progress=True)
    assert capfd.readouterr() == ("", "")
