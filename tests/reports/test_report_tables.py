from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from profi.reports.differences import clear_best, paired_difference
from profi.reports.names import RowKey, base_of, row_labels
from profi.reports.paper import APART, OVERLAP, compare_to_paper, paper_numbers, paper_table
from profi.reports.render import render_latex, render_markdown, render_rich, write_csv
from profi.reports.statistics import Expected, row_keys, summarise
from profi.reports.tables import NOTHING, Table, difference_table, score_table

DREAMSHAPER = "Lykon/dreamshaper-8-inpainting"
STABLE = "stable-diffusion-v1-5/stable-diffusion-inpainting"


def differences_of(scores: pd.DataFrame) -> Table:
    table = difference_table(paired_difference(scores), row_labels(row_keys(scores)))
    assert table is not None
    return table


def shifted(scores: pd.DataFrame, **gains: float) -> pd.Series:
    """The values, with a constant added to those of some ablations."""
    return scores["value"] + scores["ablation"].map(gains).fillna(0.0)


def bold(table: Table) -> dict[str, list[int]]:
    """The columns in which a row is bold."""
    found = {
        label: [i for i, cell in enumerate(cells) if cell.best]
        for label, cells in table.rows.items()
    }
    return {label: columns for label, columns in found.items() if columns}


def scored(scores: pd.DataFrame) -> Table:
    summary = summarise(scores)
    return score_table(summary, clear_best(scores, summary))


def papers(scores: pd.DataFrame, expected: Expected | None = None) -> Table:
    table = paper_table(summarise(scores, expected), paper_numbers())
    assert table is not None
    return table


def test_rows_and_columns_are_the_papers(scores):
    table = scored(scores)
    assert list(table.rows) == ["base", "only PAIntA", "only RASG", "RASG & PAIntA"]
    assert table.columns == ("CLIP score", "Accuracy, %", "Aesthetic score")


def test_the_papers_numbers():
    paper = paper_numbers()
    assert set(paper["source"].str[-7:]) == {"Table 1", "Table 2"}
    # 11 rows of Table 1 and the 2 of Table 2 that are no rows of it, three metrics each.
    assert len(paper) == 3 * 13
    lines = paper.set_index(["model", "ablation", "metric"])[["mean", "half_width"]]
    assert tuple(lines.loc[DREAMSHAPER, "profi", "accuracy"]) == (68.05, 0.48)
    assert tuple(lines.loc[DREAMSHAPER, "painta_only", "aesthetic"]) == (4.985, 0.003)
    assert tuple(lines.loc[STABLE, "base", "clip_score"]) == (25.10, 0.02)


def test_the_papers_two_tables_agree_where_they_overlap():
    from importlib import resources

    folder = resources.files("profi.reports") / "reference"
    one, two = (pd.read_csv(str(folder / f"table{n}.csv")) for n in (1, 2))
    both = one.merge(two, on=["model", "ablation", "metric"])
    assert len(both) == 6
    assert (both["mean_x"] == both["mean_y"]).all()
    assert (both["half_width_x"] == both["half_width_y"]).all()


def test_ours_compared_to_the_papers_with_difference_and_overlap(make_scores):
    scores = make_scores(model=DREAMSHAPER)
    chosen = (scores["ablation"] == "profi") & (scores["metric"] == "clip_score")
    # Every run's mean of the first triplets alternates around 26.30 +- 0.02.
    scores.loc[chosen, "value"] = 26.30 + 0.02 * (-1.0) ** scores.loc[chosen, "seed"]
    summary = compare_to_paper(summarise(scores), paper_numbers())
    line = summary.set_index(["ablation", "metric"]).loc["profi", "clip_score"]
    assert line["mean"] == pytest.approx(26.304)
    assert line["difference_to_paper"] == pytest.approx(26.304 - 26.32)
    assert (line["paper_low"], line["paper_high"]) == pytest.approx((26.29, 26.35))
    assert line["overlaps"] is True
    scores.loc[chosen, "value"] -= 1
    apart = compare_to_paper(summarise(scores), paper_numbers()).set_index(["ablation", "metric"])
    assert apart.loc["profi", "clip_score"]["overlaps"] is False
    cells = papers(scores).rows["RASG & PAIntA"]
    assert [cell.text for cell in cells[1:3]] == ["26.32 ± 0.03", f"−1.02, {APART}"]
    assert cells[1].published
    assert not any(cell.best for row in papers(scores).rows.values() for cell in row)


def test_touching_intervals_overlap(make_scores):
    reference = paper_numbers()
    summary = summarise(make_scores(model=DREAMSHAPER))
    line = reference["metric"] == "aesthetic"
    edge = summary[summary["metric"] == "aesthetic"].set_index("ablation")["high"]
    names = reference.loc[line, "ablation"]
    reference.loc[line, "half_width"] = 0.5
    # Exact in binary: the paper's lower end is ours upper one.
    reference.loc[line, "mean"] = names.map(edge).fillna(0) + 0.5
    compared = compare_to_paper(summary, reference)
    compared = compared[compared["metric"] == "aesthetic"]
    assert set(compared["overlaps"]) == {True}


def test_what_is_incomplete_is_not_compared(make_scores):
    scores = make_scores(model=DREAMSHAPER)
    expected = Expected(frozenset(scores["triplet_id"]), frozenset(range(6)))
    table = papers(scores, expected)
    for cells in table.rows.values():
        assert {cell.text for cell in cells[2::3]} == {NOTHING}
        assert {cell.marks for cell in cells[2::3]} == {"*"}
    compared = compare_to_paper(summarise(scores, expected), paper_numbers())
    assert compared["overlaps"].isna().all()


def test_the_embedded_world_has_no_numbers_of_the_paper(scores):
    assert paper_table(summarise(scores), paper_numbers()) is None


def test_table_1_has_models_and_the_papers_other_rows(make_scores):
    models = [make_scores(model=m, ablations=("base", "profi")) for m in (DREAMSHAPER, STABLE)]
    scores = pd.concat(models)
    assert list(scored(scores).rows) == [
        "Stable 1.5 Inpainting",
        "DreamShaper Inpainting",
        "Stable 1.5 + ProFI Painter",
        "DreamShaper 8 + ProFI Painter",
    ]
    table = papers(scores)
    assert list(table.rows)[4:] == [
        "GLIDE",
        "BLD",
        "SDXL Inpainting",
        "DreamShaper-ControlNet",
        "SmartBrush reprod.",
        "Stable 2.0 Inpainting",
        "Stable 2.0 + ProFI Painter",
    ]
    assert table.rows["Stable 1.5 + ProFI Painter"][4].text == "59.57 ± 0.58"
    assert table.rows["GLIDE"][3].text == NOTHING
    assert table.rows["GLIDE"][4].text == "43.08 ± 0.30"
    assert list(differences_of(scores).rows) == [
        "Stable 1.5 + ProFI Painter",
        "DreamShaper 8 + ProFI Painter",
    ]


def test_rows_of_table_1_are_named_and_ordered_as_the_paper_does():
    paper = paper_numbers()
    printed = paper[paper["source"].str.endswith("Table 1")].drop_duplicates("row")
    rows = [RowKey(line.model, line.ablation, "paper") for line in printed.itertuples()]
    assert len(rows) == 11
    assert list(row_labels(reversed(rows)).values()) == list(printed["row"])
    others = [
        RowKey("x", "profi", "paper"),
        RowKey("Lykon/dreamshaper-8-inpainting", "rasg_only", "paper"),
    ]
    assert list(row_labels([*others, *rows]).values())[11:] == [
        "DreamShaper 8: only RASG",
        "x: RASG & PAIntA",
    ]


def test_a_row_is_compared_with_the_base_of_its_model_and_reading():
    rows = [
        RowKey(model, ablation, reading)
        for model in "ab"
        for ablation in ("base", "profi")
        for reading in ("paper", "released")
    ]
    assert base_of(RowKey("b", "profi", "released"), rows) == RowKey("b", "base", "released")
    assert base_of(RowKey("b", "profi", "another"), rows) is None
    only = [RowKey("a", "base", "paper"), RowKey("a", "profi", "another")]
    assert base_of(only[1], only) == only[0]
    assert base_of(only[0], only) is None


def test_differences_are_printed_with_interval_and_test(make_scores):
    scores = make_scores(n_triplets=200)
    differences = paired_difference(scores).set_index(["ablation", "metric"])
    line = differences.loc["profi", "accuracy"]
    table = differences_of(scores)
    assert "base" not in table.rows
    assert table.columns == (
        "CLIP score",
        "Accuracy, %",
        "gained / lost",
        "McNemar p",
        "Aesthetic score",
    )
    clip, accuracy, changed, p_value, _ = table.rows["RASG & PAIntA"]
    assert accuracy.text == (
        f"{line['difference']:+.2f} [{line['low']:+.2f}, {line['high']:+.2f}]".replace("-", "−")
    )
    assert (clip.tone, accuracy.tone) == ("up", "up")
    assert changed.text == f"{line['n_gained']} / {line['n_lost']}"
    assert p_value.text == "< 0.0001"
    scores.loc[scores["ablation"] == "profi", "value"] *= -1
    assert differences_of(scores).rows["RASG & PAIntA"][0].tone == "down"


def test_pairs_without_a_side_are_marked(scores):
    gone = (scores["ablation"] == "base") & (scores["triplet_id"] == "0002")
    table = differences_of(scores[~gone])
    marked = [cell.marks for cell in table.rows["only PAIntA"] if "[" in cell.text]
    assert marked == ["*"] * 3
    assert any("5 pairs lack one side" in note for note in table.notes)


def test_no_base_no_table_of_differences(scores):
    only = scores[scores["ablation"] != "base"]
    assert difference_table(paired_difference(only), row_labels(row_keys(only))) is None


def test_what_is_clearly_best_is_bold_and_never_what_is_incomplete(scores):
    table = scored(scores.assign(value=shifted(scores, profi=50.0)))
    assert bold(table) == {"RASG & PAIntA": [0, 1, 2]}
    assert "bold: better than every other row" in table.notes[-1]
    lacking = scores[~((scores["ablation"] == "profi") & (scores["triplet_id"] == "0000"))]
    lacking = lacking.assign(value=shifted(lacking, profi=50.0, rasg_only=25.0))
    table = scored(lacking)
    assert bold(table) == {"only RASG": [0, 1, 2]}
    assert {cell.marks for cell in table.rows["RASG & PAIntA"]} == {"*"}
    assert any("incomplete" in note for note in table.notes)


def test_where_nothing_is_clear_nothing_is_bold(make_scores):
    """Two seeds of a method that changes as much for the worse as for the better."""
    scores = make_scores(seeds=(0, 1), ablations=("base", "profi"))
    base = scores[scores["ablation"] == "base"]
    up = np.where(base["image_id"] % 2 == 0, 1.001, -1.0)
    table = scored(pd.concat([base, base.assign(ablation="profi", value=base["value"] + up)]))
    assert bold(table) == {}
    assert "nothing is bold" in table.notes[-1]


def test_the_notes_say_over_what_the_intervals_are(make_scores):
    few, many = make_scores(seeds=(0, 1, 2)), make_scores()
    over_images, over_seeds = "† fewer than 5 seeds: bootstrap over images", "t-interval of the"
    table = scored(few)
    assert {cell.marks for cells in table.rows.values() for cell in cells} == {"†"}
    assert [note.startswith(over_images) for note in table.notes].count(True) == 1
    assert not any(over_seeds in note for note in table.notes)
    table = scored(many)
    assert {cell.marks for cells in table.rows.values() for cell in cells} == {""}
    assert [note.startswith(over_seeds) for note in table.notes].count(True) == 1
    assert not any("†" in note for note in table.notes)
    lacking = many[(many["ablation"] != "base") | (many["seed"] < 3)]
    table = scored(lacking)
    assert {cell.marks for cell in table.rows["base"]} == {"*†"}
    assert {cell.marks for cell in table.rows["only RASG"]} == {""}
    assert any(note.startswith(f"without †: {over_seeds}") for note in table.notes)
    assert any(note.startswith(over_images) for note in table.notes)


def test_marks_for_one_seed_and_for_nan(make_scores):
    scores = make_scores(seeds=(0,))
    scores.loc[scores[scores["ablation"] == "base"].index[0], "value"] = np.nan
    table = scored(scores)
    marks = {cell.marks for cells in table.rows.values() for cell in cells}
    assert marks == {"†", "†‡"}
    assert any(note.startswith("‡ without 1 scores") for note in table.notes)


def test_an_absent_metric_is_a_dash(scores):
    gone = (scores["ablation"] == "base") & (scores["metric"] == "aesthetic")
    assert scored(scores[~gone]).rows["base"][2].text == "–"


def test_names_grow_only_where_rows_differ():
    rows = [RowKey("a", "profi", "paper"), RowKey("a", "base", "paper")]
    assert list(row_labels(rows).values()) == ["base", "RASG & PAIntA"]
    rows.append(RowKey("b", "paint_more", "released"))
    assert list(row_labels(rows).values()) == [
        "a: base (paper)",
        "a: RASG & PAIntA (paper)",
        "b: paint_more (released)",
    ]


def test_markdown_is_a_rectangle_with_bold_bests(make_scores):
    scores = make_scores(model=DREAMSHAPER)
    for table, n_columns in (
        (scored(scores), 3),
        (papers(scores), 9),
        (differences_of(scores), 5),
    ):
        text = render_markdown(table)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(table.rows)
        assert {line.count("|") for line in lines} == {n_columns + 2}
        assert text.startswith(f"### {table.title}\n")
    best = render_markdown(scored(scores.assign(value=shifted(scores, profi=50.0))))
    assert best.count("**") == 6
    assert "| base | " in render_markdown(scored(scores))


def test_latex_escapes_and_closes(make_scores):
    scores = make_scores(model=DREAMSHAPER, n_triplets=200)
    text = render_latex(scored(scores.assign(value=shifted(scores, profi=50.0))))
    assert r"RASG \& PAIntA" in text
    assert r"Accuracy, \%" in text
    assert r"$\pm$" in text
    assert r"\textbf{" in text
    for table in (scored(scores), papers(scores), differences_of(scores)):
        text = render_latex(table)
        body = [line for line in text.splitlines() if not line.startswith("%")]
        rows = [line for line in body if line.endswith(r"\\")]
        assert len(rows) == 1 + len(table.rows)
        assert {line.count(" & ") for line in rows} == {len(table.columns)}
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
        # In text mode these print as other characters, or not at all.
        assert not set("\n".join(body).replace("$<$", "")) & set("<−–±†‡")


def test_the_terminal_table_shows_every_number(make_scores):
    scores = make_scores(model=DREAMSHAPER)
    for table in (scored(scores), papers(scores), differences_of(scores)):
        stream = io.StringIO()
        Console(file=stream, width=250).print(render_rich(table))
        shown = stream.getvalue()
        assert table.title in shown
        for cells in table.rows.values():
            assert all(cell.text in shown for cell in cells)


def test_the_csv_is_unrounded(make_scores, tmp_path):
    summary = compare_to_paper(summarise(make_scores(model=DREAMSHAPER)), paper_numbers())
    write_csv(summary, tmp_path / "deep" / "table2.csv")
    again = pd.read_csv(tmp_path / "deep" / "table2.csv")
    assert again["mean"].to_numpy() == pytest.approx(summary["mean"].to_numpy(), rel=1e-14)
    assert {"low", "high", "n_seeds", "n_triplets", "n_nan", "run_ids"} <= set(again.columns)
    assert {"paper_mean", "difference_to_paper", "overlaps"} <= set(again.columns)
    assert set(again["overlaps"]) <= {True, False}


def test_overlap_words_are_the_csv_s(make_scores):
    scores = make_scores(model=DREAMSHAPER)
    compared = compare_to_paper(summarise(scores), paper_numbers()).set_index(
        ["ablation", "metric"]
    )
    for metric, place in (("clip_score", 2), ("accuracy", 5), ("aesthetic", 8)):
        word = OVERLAP if compared.loc["base", metric]["overlaps"] else APART
        assert papers(scores).rows["base"][place].text.endswith(word)
