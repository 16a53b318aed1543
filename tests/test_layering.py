"""One road, downhill: a room imports only rooms below it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "hf_vipriors"
# From the top down. Rooms of one line do not know of each other. A room is a folder or a file of its own.
ROOMS = """
experiments
benchmark advice scoring inference
cli
search
run comparison
training
reports
methods evaluation hub
models
losses views backbones data
papers options invocation shipped yaml_files logs disk_errors
files terminal machine
markup
errors
"""
LEVEL = {room: -number for number, line in enumerate(ROOMS.split("\n")) for room in line.split()}


def imported_rooms(source: str, package: list[str]) -> set[str]:
    """Rooms that the source of a file in ``package`` imports, relative or absolute, at the top or in a function."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("hf_vipriors.")}
    return rooms & LEVEL.keys()


def violations(root: Path) -> list[str]:
    """Every arrow that does not go down, and every room without a level. The package's own ``__init__`` is a door."""
    found = []
    for path in sorted(set(root.rglob("*.py")) - {root / "__init__.py", root / "__main__.py"}):
        place = path.relative_to(root)
        room = place.with_suffix("").parts[0]
        if room not in LEVEL:
            found.append(f"{place}: add the room {room} to ROOMS")
            continue
        others = imported_rooms(path.read_text(encoding="utf-8"), ["hf_vipriors", *place.parent.parts])
        found += [
            f"{place} ({room}) imports {other}" for other in sorted(others - {room}) if LEVEL[other] >= LEVEL[room]
        ]
    return found


def test_a_room_imports_only_rooms_below_it():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders >= {"training", "methods", "evaluation", "hub", "models", "losses", "views", "backbones", "data"}
    assert not (found := violations(ROOT)), "\n".join(found)


def test_every_arrow_up_or_sideways_is_seen(tmp_path):
    """Seven files, one innocent; all at once."""
    for path, source in {
        "losses/kd.py": "from hf_vipriors.models import VipriorsModel",
        "losses/seed.py": "def f():\n    from ..methods.seed import Seed",
        "views/blur.py": "import hf_vipriors.backbones.timm_backbone",
        "models/deep/er.py": "from ... import training, errors\nfrom . import methods",
        "errors.py": "from .data import sources",
        "attic/box.py": "",
        "training/trainer.py": "import hf_vipriors\nfrom ..methods import Seed\nfrom . import search\nimport training",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert violations(tmp_path) == [
        "attic/box.py: add the room attic to ROOMS",
        "errors.py (errors) imports data",
        "losses/kd.py (losses) imports models",
        "losses/seed.py (losses) imports methods",
        "models/deep/er.py (models) imports training",
        "views/blur.py (views) imports backbones",
    ]
