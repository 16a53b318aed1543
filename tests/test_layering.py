"""One road, downhill: a stage imports only stages below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "hf_vipriors"
LEVEL = {
    "commands": 6,
    "cli": 5,
    "training": 4,
    "methods": 3,
    "evaluation": 3,
    "hub": 3,
    "models": 2,
    "losses": 1,
    "views": 1,
    "backbones": 1,
    "data": 1,
    "errors": 0,
    "invocation": 0,
    "shipped": 0,
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def imported_stages(path: Path) -> set[str]:
    """Stages that a file imports, relative or absolute."""
    package = ["hf_vipriors", *path.relative_to(ROOT).parent.parts]
    stages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        stages |= {name.split(".")[1] for name in names if name.startswith("hf_vipriors.")}
    return stages & LEVEL.keys()


def test_there_is_something_to_check():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} >= LEVEL.keys() - {"errors", "invocation", "shipped"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_stage_imports_only_stages_below_it(path):
    stage = path.relative_to(ROOT).parts[0]
    for other in imported_stages(path) - {stage}:
        assert LEVEL[other] < LEVEL[stage], f"{path.relative_to(ROOT)} ({stage}) imports {other}"
