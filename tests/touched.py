"""Print the unit tests that ``make quick`` runs: the fast ones, and those of what has changed since main.

``tuner/ROOM/MODULE.py`` is tested in ``tests/unit/ROOM``, in the files that have the module's name in theirs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNIT = Path("tests/unit")

FAST = ("core", "catalog", "config", "recipes", "recorded", "analysis/statistics", "analysis/searched")
"""Folders of tests/unit of which none takes more than 10 s on one core, and the whole about 30 s."""

DATA = {"search_spaces": "config", "benchmarks": "benchmarks", "docs": "docs"}
"""Where files are tested that are not Python of tuner's."""


def changed() -> list[Path]:
    """Return the files that differ from where this branch left main, committed or not; none outside a repository."""
    try:
        base = _git("merge-base", "HEAD", "main") or ["HEAD"]
        names = [*_git("diff", "--name-only", base[0]), *_git("ls-files", "--others", "--exclude-standard")]
    except OSError:  # there is no git
        return []
    return [Path(name) for name in names]


def _git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def touched_by(path: Path, root: Path) -> list[Path]:
    """Return the files and folders of unit tests that a changed file touches, relative to the root."""
    if path.parts[0] == "tuner" and path.suffix == ".py":
        return _mirrored(path, root)
    if path.is_relative_to(UNIT):
        whole = path.parent if path.parent != UNIT else None  # a helper's, a conftest's or a data file's neighbours
        touched = path if path.name.startswith("test_") else whole
        return [touched] if touched is not None and (root / touched).exists() else []
    return [UNIT / DATA[path.parts[0]]] if path.parts[0] in DATA else []


def _mirrored(path: Path, root: Path) -> list[Path]:
    parts = [part for part in path.with_suffix("").parts[1:] if part != "__init__"]
    folder = UNIT
    while len(parts) > 1 and (root / folder / parts[0]).is_dir():
        folder, parts = folder / parts[0], parts[1:]
    for name in reversed(parts):
        if named := sorted((root / folder).glob(f"test_*{name}*.py")):
            return [one.relative_to(root) for one in named]
    if parts and (root / folder / parts[0]).is_dir():
        folder /= parts[0]
    return [folder] if folder != UNIT else []


def chosen(paths: Iterable[Path], root: Path) -> list[Path]:
    """Return what pytest is to run for changed files, without a file whose folder is run."""
    wanted = {UNIT / name for name in FAST} | {test for path in paths for test in touched_by(path, root)}
    return sorted(one for one in wanted if not wanted.intersection(one.parents))


if __name__ == "__main__":
    paths = changed()
    if untested := [str(path) for path in paths if path.parts[0] == "tuner" and not touched_by(path, ROOT)]:
        print(f"No unit tests are named after {', '.join(untested)}.", file=sys.stderr)
    print(*chosen(paths, ROOT))
