from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from profi.reports.names import RowKey, row_labels
from profi.reports.statistics import summarise
from profi.reports.tables import (
    paper_table2,
    render_latex,
    render_markdown,
    render_rich,
    table2,
    write_csv,
)


def test_rows_and_columns_are_the_papers(scores):
    table = table2(summarise(scores))
    assert list(table.rows) == ["base", "only PAIntA", "only RASG", "RASG & PAIntA"]
    assert table.columns == ("CLIP score", "Accuracy, %", "Aesthetic score")


def test_the_papers_numbers():
    paper = paper_table2().set_index(["ablation", "metric"])
    assert len(paper) == 12
    assert tuple(paper.loc[("profi", "accuracy")]) == (68.05, 0.48)
    assert tuple(paper.loc[("base", "clip_score")]) == (25.61, 0.02)
    assert tuple(paper.loc[("painta_only", "aesthetic")]) == (4.985, 0.003)


def test_reference_numbers_stand_beside_and_never_compete(scores):
    table = table2(summarise(scores), paper_table2())
    assert len(table.columns) == 6
    cells = table.rows["RASG & PAIntA"]
    assert [cell.text for cell in cells[3:]] == ["26.32 ± 0.03", "68.05 ± 0.48", "4.980 ± 0.003"]
    assert not any(cell.best for row in table.rows.values() for cell in row[3:])


def test_the_best_is_the_maximum_of_the_complete_rows(scores):
    table = table2(summarise(scores))
    means = scores[scores["metric"] == "accuracy"].groupby("ablation")["value"].mean()
    labels = row_labels(RowKey("mini", name, "paper") for name in means.index)
    best = labels[RowKey("mini", str(means.idxmax()), "paper")]
    assert [label for label, cells in table.rows.items() if cells[1].best] == [best]
    lacking = scores[~((scores["ablation"] == means.idxmax()) & (scores["triplet_id"] == "0000"))]
    table = table2(summarise(lacking))
    assert not table.rows[best][1].best
    assert table.rows[best][1].marks == "*"
    assert any("incomplete" in note for note in table.notes)


def test_marks_for_one_seed_and_for_nan(make_scores):
    scores = make_scores(seeds=(0,))
    scores.loc[scores[scores["ablation"] == "base"].index[0], "value"] = np.nan
    table = table2(summarise(scores))
    marks = {cell.marks for cells in table.rows.values() for cell in cells}
    assert marks == {"†", "†‡"}
    assert len(table.notes) == 3


def test_an_absent_metric_is_a_dash(scores):
    gone = (scores["ablation"] == "base") & (scores["metric"] == "aesthetic")
    assert table2(summarise(scores[~gone])).rows["base"][2].text == "–"


def test_names_grow_only_where_rows_differ():
    rows = [RowKey("a", "profi", "paper"), RowKey("a", "base", "paper")]
    assert list(row_labels(rows).values()) == ["base", "RASG & PAIntA"]
    rows.append(RowKey("b", "paint_more", "released"))
    assert list(row_labels(rows).values()) == [
        "a: base (paper)",
        "a: RASG & PAIntA (paper)",
        "b: paint_more (released)",
    ]


def test_markdown_is_a_rectangle_with_bold_bests(scores):
    text = render_markdown(table2(summarise(scores), paper_table2()))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 6
    assert {line.count("|") for line in lines} == {8}
    assert text.count("**") >= 6
    assert "| base | " in text


def test_latex_escapes_and_closes(scores):
    text = render_latex(table2(summarise(scores)))
    assert r"RASG \& PAIntA" in text
    assert r"Accuracy, \%" in text
    assert r"$\pm$" in text
    assert r"\textbf{" in text
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert all(line.count(" & ") == 3 for line in body if line.endswith(r"\\"))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_the_terminal_table_shows_every_number(scores):
    table = table2(summarise(scores))
    stream = io.StringIO()
    Console(file=stream, width=140).print(render_rich(table, "Table 2"))
    shown = stream.getvalue()
    assert "Table 2" in shown
    for cells in table.rows.values():
        assert all(cell.text in shown for cell in cells)


def test_the_csv_is_unrounded(scores, tmp_path):
    summary = summarise(scores)
    write_csv(summary, tmp_path / "deep" / "table2.csv")
    again = pd.read_csv(tmp_path / "deep" / "table2.csv")
    assert again["mean"].to_numpy() == pytest.approx(summary["mean"].to_numpy(), rel=1e-14)
    assert {"low", "high", "n_seeds", "n_triplets", "n_nan", "run_ids"} <= set(again.columns)
