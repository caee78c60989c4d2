"""The files of a recommendation in the study's folder; each appears whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tuner.reporting.dossier import Dossier
from tuner.reporting.markdown import markdown

FILES = ("report.html", "recommendation.json", "recommendation.md", "learning_curves.png", "values_by_arm.png")
"""What a recommendation is written to, what people open first at the head."""


def write_all(dossier: Dossier, folder: Path) -> list[Path]:
    """Write the report, recommendation.json, recommendation.md and both pictures; return their paths."""
    from tuner.reporting.pictures import learning_curves, values_by_arm
    from tuner.reporting.report.page import html

    folder.mkdir(parents=True, exist_ok=True)
    spec, trials, runs = dossier.spec, dossier.trials, dossier.runs
    document = json.dumps(dossier.to_json(), indent=2, allow_nan=False) + "\n"
    page = markdown(dossier.evidence, findings=dossier.findings)
    return [
        _whole(folder / "report.html", lambda path: _text(path, html(dossier))),
        _whole(folder / "recommendation.json", lambda path: _text(path, document)),
        _whole(folder / "recommendation.md", lambda path: _text(path, page)),
        _whole(folder / "learning_curves.png", lambda path: learning_curves(spec, trials, runs, path)),
        _whole(folder / "values_by_arm.png", lambda path: values_by_arm(spec, trials, runs, path)),
    ]


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
