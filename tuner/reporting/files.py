"""The files of a recommendation in the study's folder; each appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tuner.analysis.analysis import Analysis
from tuner.core.errors import NoEvidence
from tuner.reporting.markdown import markdown

LONGEST = 60
"""A folder's name has so many characters at most."""
FILES = ("report.html", "recommendation.json", "recommendation.md", "learning_curves.png", "values_by_arm.png")
"""What a recommendation is written to, what people open first at the head."""


def write_all(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the report, recommendation.json, recommendation.md and both pictures; return their paths.

    Raises:
        NoEvidence: no run has finished; nothing is written.
    """
    from tuner.reporting.pictures import learning_curves, values_by_arm
    from tuner.reporting.report.page import html

    document = json.dumps(analysis.to_json(), indent=2, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    page = markdown(analysis.evidence, findings=analysis.findings)
    return [
        _whole(folder / "report.html", lambda path: _text(path, html(analysis))),
        _whole(folder / "recommendation.json", lambda path: _text(path, document)),
        _whole(folder / "recommendation.md", lambda path: _text(path, page)),
        _whole(folder / "learning_curves.png", lambda path: learning_curves(analysis, path)),
        _whole(folder / "values_by_arm.png", lambda path: values_by_arm(analysis, path)),
    ]


def write_each(analyses: Sequence[Analysis], folder: Path) -> list[Path]:
    """Write the report of each study that has an answer, of several into a folder each; return the pages."""
    pages = []
    for analysis, name in zip(analyses, folder_names([one.records.spec.name for one in analyses]), strict=True):
        try:
            pages.append(write_all(analysis, folder / name if len(analyses) > 1 else folder)[0])
        except NoEvidence:
            continue
    return pages


def folder_names(studies: Sequence[str]) -> list[str]:
    """Return a folder's name for each study, whatever the study is called: none leads elsewhere, no two are the same.

    >>> folder_names(["digits", "a/b", "a b", "../x", "A-B", ""])
    ['digits', 'a-b', 'a-b-2', 'x', 'A-B-3', 'study']
    """
    names: list[str] = []
    for study in studies:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", study).strip(".-")[:LONGEST].rstrip(".-") or "study"
        taken, name, count = {other.lower() for other in names}, plain, 1
        while name.lower() in taken:
            count += 1
            name = f"{plain}-{count}"
        names.append(name)
    return names


def _text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


def _whole(target: Path, write: Callable[[Path], object]) -> Path:
    """Write beside the target, then move it there: a reader or a kill never meets half a file."""
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
