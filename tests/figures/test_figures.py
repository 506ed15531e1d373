"""Every figure, drawn small on the embedded world, and the laws that it shows."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from small_figures import Studio

from profi.catalogue import FigureEntry, Shelf, catalogue
from profi.figures import pool as pool_module
from profi.figures.drawing import DPI, Drawing, Pick
from profi.figures.failures import figure_17
from profi.figures.figure_stage import draw
from profi.figures.gradients import fit, gradients_of, standardise
from profi.figures.layout import FULL, Cell, grid
from profi.figures.similarity import observed
from profi.harness.run_folder import RunFolder
from profi.method.trace import Trace
from profi.store.generations import read_generations
from profi.store.scores import newest_scores
from profi.types import UserError

#: Fewer triplets for those that share no runs with the others.
FEWER = {"8": 4, "9": 8, "15": 8, "16": 8, "19": 4}
DRAWN = [one.name for one in catalogue.figures.entries() if not one.needs]


def words(name: str) -> list[str]:
    return [f"data.limit={FEWER[name]}"] if name in FEWER else []


@pytest.fixture(scope="module")
def drawings(studio: Studio) -> dict[str, Drawing]:
    """All figures; those whose rule fits nothing in so small a pool show the first triplet."""
    found = {}
    for name in DRAWN:
        try:
            found[name] = studio.draw(name, *words(name))
        except UserError as error:
            if "no painted triplet fits its rule" not in str(error):
                raise
            first = studio.context(name, *words(name)).triplets(studio.command(name).config)[0]
            select = f'figure.select=["{first.triplet_id}"]'
            found[name] = studio.draw(name, *words(name), select)
    return found


def accuracies(studio: Studio, name: str) -> dict[str, dict[str, float]]:
    """The stored accuracy by ablation and triplet, of the runs that a figure's record names."""
    found = {}
    for text in studio.record(name)["facts"]["runs"].split(", "):
        run_id, _, rest = text.partition(" (")
        model, ablation = rest.rstrip(")").split(" ")
        scores = newest_scores(RunFolder(studio.out / run_id).scores, "accuracy")
        found[ablation if model == "profi-mini" else model] = scores
    return found


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_written_at_print_size_with_vector_text(
    studio: Studio, drawings: dict[str, Drawing], name: str
) -> None:
    folder = studio.out / "figures"
    width = drawings[name].figure.get_size_inches()[0]
    assert 1 < width <= FULL + 1e-6
    with Image.open(folder / f"figure-{name}.png") as picture:
        assert abs(picture.width - width * DPI) <= 1
    pdf = (folder / f"figure-{name}.pdf").read_bytes()
    # TrueType outlines, not glyphs drawn as shapes.
    assert b"/CIDFontType2" in pdf or b"/TrueType" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_of_a_figure_is_cut_off_or_covered_or_too_small(
    drawings: dict[str, Drawing], name: str
) -> None:
    check_texts(drawings[name])


def check_texts(drawing: Drawing) -> None:
    figure, drawn = drawing.figure, []
    plain = Text.draw

    def noted(self: Text, renderer: object, *arguments: object) -> None:
        # Ticks outside of an axis's limits are not drawn.
        drawn.append(self)
        plain(self, renderer, *arguments)

    with patch.object(Text, "draw", noted):
        figure.canvas.draw()
    texts = [text for text in drawn if text.get_visible() and text.get_text().strip()]
    assert texts
    boxes = []
    for text in texts:
        assert text.get_fontsize() >= 6.0
        box = text.get_window_extent()
        assert box.x0 >= -0.5, text
        assert box.y0 >= -0.5, text
        assert box.x1 <= figure.bbox.x1 + 0.5, text
        assert box.y1 <= figure.bbox.y1 + 0.5, text
        boxes.append((text.get_text(), box))
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        # In points of 72 to an inch; the boxes of texts have some air.
        assert min(across, along) * 72 / figure.dpi < 1.0, (one, two)


@pytest.mark.parametrize("name", DRAWN)
def test_a_caption_states_seed_model_rule_and_command(
    studio: Studio, drawings: dict[str, Drawing], name: str
) -> None:
    text = (studio.out / "figures" / f"figure-{name}.md").read_text("utf-8")
    record = studio.record(name)
    assert record["chosen"] == [pick.text for pick in drawings[name].chosen]
    for pick in record["chosen"]:
        assert f"`{pick}`" in text
    assert record["rule"] in text
    assert f"profi figure {name} " in text
    assert "| seed | 0 |" in text
    assert "profi-mini" in record["facts"]["model"]
    page = (studio.out / "figures" / "index.html").read_text("utf-8")
    assert f'src="figure-{name}.png"' in page


@pytest.mark.parametrize(
    ("name", "ours"), [("6", "painta_only"), ("7", "rasg_only"), ("18", "profi")]
)
def test_the_rule_of_a_caption_gives_the_chosen_examples(
    studio: Studio, drawings: dict[str, Drawing], name: str, ours: str
) -> None:
    """From the stores alone, with the order as the caption states it."""
    scores = accuracies(studio, name)
    triplets = {t.triplet_id: t for t in studio.context(name).triplets(studio.command(name).config)}
    won = [n for n in triplets if scores[ours][n] == 100 and scores["base"][n] == 0]
    lost = [n for n in triplets if scores[ours][n] == 0 and scores["base"][n] == 100]
    won.sort(key=lambda n: hashlib.sha256(f"0:{name}:{n}:0".encode()).hexdigest())
    expected: list[str] = []
    waiting = list(won)
    while waiting:
        # A round takes the first of every prompt.
        prompts: set[str] = set()
        for one in list(waiting):
            if triplets[one].prompt not in prompts:
                prompts.add(triplets[one].prompt)
                expected.append(one)
                waiting.remove(one)
    if not won:
        assert drawings[name].rule == "Named by figure.select, not by a rule."
        return
    count = len(drawings[name].chosen)
    assert count == min(len(won), {"6": 6, "7": 6, "18": 7}[name])
    assert [pick.triplet_id for pick in drawings[name].chosen] == expected[:count]
    assert f"({len(won)}; the reverse holds for {len(lost)})" in drawings[name].rule
    assert drawings[name].rule.count('SHA-256("0:') == 1


def test_a_number_of_examples_is_that_of_each_kind(studio: Studio) -> None:
    both = figure_17(studio.context("17", "figure.examples=1"))
    all_of_them = figure_17(studio.context("17", "figure.examples=6"))
    assert both.chosen[0] == all_of_them.chosen[0]
    missed, total = map(int, re.findall(r"Of the (\d+) of (\d+) paintings", both.rule)[0])
    assert len(both.chosen) == min(1, missed) + min(1, total - missed) == 2
    assert len(all_of_them.chosen) == min(6, missed) + min(6, total - missed)


def test_at_least_one_rule_found_something(drawings: dict[str, Drawing]) -> None:
    """Else the test above would show nothing."""
    assert any("named by" not in drawings[name].rule.lower() for name in ("6", "7", "18"))


def test_painted_runs_are_read_and_give_the_same_file(
    studio: Studio, drawings: dict[str, Drawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = studio.out / "figures" / "figure-17.png"
    before = path.read_bytes()
    path.unlink()

    def refuse(*_: object) -> None:
        raise AssertionError("a complete run is painted again")

    monkeypatch.setattr(pool_module, "paint_and_score", refuse)
    studio.draw("17")
    assert path.read_bytes() == before


def test_named_triplets_take_the_place_of_the_rule(studio: Studio) -> None:
    names = [t.triplet_id for t in studio.context("17").triplets(studio.command("17").config)][:2]
    drawing = studio.draw("17", f'figure.select=["{names[1]}@0","{names[0]}"]')
    assert [pick.triplet_id for pick in drawing.chosen] == [names[1], names[0]]
    assert "Named by figure.select" in studio.record("17")["rule"]
    with pytest.raises(UserError, match=r"figure\.select=nobody: none of the 12"):
        studio.draw("17", "figure.select=[nobody]")


def test_vanilla_guidance_of_scale_0_is_the_base_and_a_large_one_is_not(
    studio: Studio, drawings: dict[str, Drawing]
) -> None:
    context = studio.context("8", *words("8"))
    pictures = {}
    plain = context.of_one_model("base")
    vanilla = context.of_one_model("vanilla_only")
    for scale, config in (
        (None, plain),
        *((s, replace(vanilla, vanilla=replace(vanilla.vanilla, scale=s))) for s in (0.0, 10000.0)),
    ):
        entry = context.runs(config)[0].find()
        assert entry is not None
        pictures[scale] = images(entry.run)
    for name, base in pictures[None].items():
        # The two branches run apart, which changes float rounding alone.
        assert np.abs(pictures[0.0][name] - base).max() <= 2
    changed = [np.abs(pictures[10000.0][n] - b).mean() for n, b in pictures[None].items()]
    assert np.mean(changed) > 1
    numbers = drawings["8"].numbers
    assert numbers["s = 0"] == numbers["base"]
    assert list(numbers) == ["base", "s = 0", "s = 100", "s = 1000", "s = 10000", "RASG"]


def images(run: RunFolder) -> dict[str, np.ndarray]:
    from profi.harness.score import decode

    return {g.triplet_id: decode(g.image).astype(int) for g in read_generations(run.generations)}


def test_rows_of_a_figure_start_from_the_same_noise(studio: Studio) -> None:
    context = studio.context("6")
    config = context.of_one_model("base", "painta_only", "profi")
    (triplet, *_) = context.triplets(config)
    starts = []
    for run in context.runs(config):
        row = context.inpainters(replace(config, ablations=[run.method.name]))[run.method.name]
        fitted, trace = run.plan.fitted(triplet), Trace()
        row(
            fitted.image[None],
            fitted.mask[None],
            [triplet.prompt],
            [run.plan.noise_seed(triplet)],
            trace=trace,
        )
        starts.append(trace.steps[0].x_t)
    assert torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], starts[2])


def test_the_maps_of_figure_3_are_of_the_stored_paintings(studio: Studio) -> None:
    context = studio.context("3")
    config = context.of_one_model("base", "painta_only")
    triplets = context.triplets(config)[:2]
    seen = {}
    for run in context.runs(config):
        name = run.method.name
        row = context.inpainters(replace(config, ablations=[name]))[name]
        seen[name] = observed(row, run.plan, triplets)
        entry = run.find()
        assert entry is not None
        stored = images(entry.run)
        for triplet in triplets:
            one = seen[name][triplet.triplet_id]
            assert np.abs(one.picture - stored[triplet.triplet_id]).max() <= 2
            assert {m.shape for m in one.maps.values()} == {one.picture.shape[:2]}
    known = ~run.plan.fitted(triplets[0]).mask.numpy()
    for level in (2, 4):
        # PAIntA shrinks the logits of the known region towards zero.
        plain, with_painta = (
            np.abs(seen[n][triplets[0].triplet_id].maps[level][known]).mean() for n in seen
        )
        assert with_painta < plain


def test_the_standardised_gradient_has_variance_1_and_almost_no_mean(studio: Studio) -> None:
    context = studio.context("10")
    config = context.of_one_model("rasg_only")
    (run,) = context.runs(config)
    (row,) = context.inpainters(config).values()
    triplets = context.triplets(config)[:2]
    found = gradients_of(row, run.plan, triplets)
    assert list(found) == [t.triplet_id for t in triplets]
    for one in found.values():
        # The last of the three steps has sigma_t = 0.
        assert one.values.shape[0] == 2
        raw, unit = fit(one.values), fit(standardise(one.values))
        np.testing.assert_allclose(unit.std, 1.0, atol=1e-6)
        # Eq. 8 divides alone: a mean stays, and is small against the deviation.
        np.testing.assert_allclose(unit.mean, raw.mean / raw.std, atol=1e-6)
        assert (np.abs(unit.mean) < 0.25).all()
        # A shape has no scale.
        np.testing.assert_allclose(unit.distance, raw.distance, atol=1e-6)
        np.testing.assert_allclose(unit.kurtosis, raw.kurtosis, rtol=1e-3)
        assert (np.abs(raw.std - 1.0) > 0.01).any()


def test_the_statistics_know_normal_values_from_others() -> None:
    rng = np.random.default_rng(0)
    normal, heavy = fit(rng.normal(3, 2, (1, 4000))), fit(rng.standard_t(2, (1, 4000)))
    assert abs(normal.mean[0] - 3) < 0.2
    assert abs(normal.std[0] - 2) < 0.1
    assert normal.distance[0] < 0.886 / math.sqrt(4000) < heavy.distance[0]
    assert abs(normal.kurtosis[0]) < 0.3 < heavy.kurtosis[0]


def test_figure_5_takes_turns_between_the_two_failures(
    studio: Studio, drawings: dict[str, Drawing]
) -> None:
    from profi.figures.neglect import BACKGROUND, FOUND, NEARBY, kinds

    context = studio.context("5")
    pool = context.pool(context.of_one_model("base", "profi"))
    kind = kinds(context, pool, pool.rows[0])
    assert set(kind) == set(pool.picks)
    # `found` in both senses is the same.
    assert [p for p in pool.picks if kind[p] == FOUND] == [
        p for p in pool.picks if pool.found(pool.rows[0], p)
    ]
    if "Named" not in drawings["5"].rule:
        shown = Counter(kind[pick] for pick in drawings["5"].chosen)
        assert set(shown) <= {BACKGROUND, NEARBY}


def test_a_figure_needs_the_objects_of_its_own_scenes(studio: Studio) -> None:
    with pytest.raises(UserError, match=r"figure\.scenes .* lacks image"):
        studio.draw("3", "figure.scenes=shipped:cpu/data/instances_crowded.json")


def test_a_model_without_methods_is_refused_in_one_line(studio: Studio) -> None:
    with pytest.raises(UserError, match=r"figure 6 shows base, painta_only: choose a model"):
        studio.draw("6", "model=mini_bld", "ablation=base")


def test_a_figure_of_a_plugin(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def mean_colours(context: object) -> Drawing:
        pixels = np.zeros((8, 8, 3), np.uint8)
        figure = grid([[Cell(pixels)]], ["black"])
        return Drawing(figure, "A black square.", "There is but one.", [Pick("a", 0)])

    entry = FigureEntry("squares", mean_colours, "Squares")
    shelf = Shelf("figure", (*catalogue.figures.entries(), entry), {})
    monkeypatch.setattr(catalogue, "figures", shelf)
    command = studio.command("squares")
    draw(command, studio.context("squares").console)
    assert studio.record("squares")["caption"] == "A black square."
    assert "Squares" in (studio.out / "figures" / "index.html").read_text("utf-8")
