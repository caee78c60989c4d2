"""Where the spaces and recipes that come with tuner are, and their names; their files are read elsewhere."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tuner.config.documents import did_you_mean
from tuner.core.errors import InputError


def space_folder() -> Path:
    """Return the folder of the spaces that come with tuner: in the wheel, or beside the package in a checkout."""
    inside = Path(str(resources.files("tuner"))) / "search_spaces"
    return inside if inside.is_dir() else inside.parent.parent / "search_spaces"


def list_spaces() -> dict[str, Path]:
    return {path.stem: path for path in sorted(space_folder().glob("*.yaml"))}


def find_space(name: str, near: Path | None = None) -> Path:
    """Return the file of a space: a name that comes with tuner, or a path to one's own YAML.

    Raises:
        InputError: there is neither.
    """
    if name in (known := list_spaces()):
        return known[name]
    for folder in (Path(), near or Path()):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"space is {name!r}; expected one of {', '.join(known)}, or the path of a YAML file.")


def recipe_folder() -> Path:
    return space_folder() / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


def check_recipe_name(name: str) -> str:
    """Return the name, if the book has a recipe of it.

    Raises:
        InputError: it has none.
    """
    names = recipe_names()
    if name in names:
        return name
    expected = f"a recipe (tuner recipes): {', '.join(names)}"
    raise InputError(f"recipe is {name!r}; expected {expected}. {did_you_mean(name, names)}".rstrip())
