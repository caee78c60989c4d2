"""Where reports of recorded studies go, whatever the studies are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded.recorded_tables import confirmed, explored, studies

from tuner.analysis.analysis import Analysis
from tuner.reporting import files

VALUES = {"a": [0.9, 0.91, 0.92], "b": [0.5, 0.52, 0.51]}


@given(names=st.lists(st.text(max_size=80), max_size=8))
def test_a_name_is_one_folder_and_nobody_elses(names: list[str]) -> None:
    found = files.folder_names(names)
    assert len({name.lower() for name in found}) == len(names)
    for name in found:
        assert Path(name).parts == (name,)
        assert name not in (".", "..")
        assert len(name) <= files.LONGEST + 3


def test_plain_names_stay() -> None:
    names = ["digits", "resnet-50_v1.5", "A"]
    assert files.folder_names(names) == names


def test_no_report_leaves_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_all", lambda analysis, folder: [folder / "report.html"])
    rows = [
        {**row, "run_id": f"{name}-{row['run_id']}", "study": name}
        for name in ("../x", "a/b", "a b")
        for row in explored({"a": [0.8], "b": [0.5]}) + confirmed(VALUES)
    ]
    analyses = [Analysis(records) for records in studies(tmp_path, rows)]
    pages = files.write_each(analyses, tmp_path / "out")
    assert [str(page.relative_to(tmp_path)) for page in pages] == [
        "out/x/report.html",
        "out/a-b/report.html",
        "out/a-b-2/report.html",
    ]
    one = files.write_each(analyses[:1], tmp_path / "out")
    assert one == [tmp_path / "out" / "report.html"]
