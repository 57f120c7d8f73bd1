"""Inside a clone an ordinarily installed package is shadowed by the folder `tokenlm/`; what is imported is whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("envs", "agents", "configs")
CODE = "import tokenlm.configs, tokenlm.envs; print(*(m.__file__ for m in (tokenlm, tokenlm.envs, tokenlm.configs)))"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """A clone, and a folder with the package as a wheel lays it out."""
    clone, installed = (tmp_path_factory.mktemp(name) for name in ("clone", "installed"))
    for name in ("tokenlm", *PARTS):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(clone / "tokenlm", installed / "tokenlm")
    for name in PARTS:
        shutil.copytree(clone / name, installed / "tokenlm" / name)
    return clone, installed


def run(installed: Path, where: Path, *arguments: str) -> str:
    """What Python prints, without the finder of an editable install (-S reads no .pth files)."""
    path = os.pathsep.join([str(installed), str(Path(np.__file__).parents[1])])
    command = [sys.executable, "-S", *arguments]
    done = subprocess.run(
        command, cwd=where, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("inside", [False, True])
def test_the_package_is_of_one_piece_inside_and_outside_of_a_clone(folders, tmp_path, inside):
    clone, installed = folders
    files = [Path(name) for name in run(installed, clone if inside else tmp_path, "-c", CODE).split()]
    parents = [file.parent for file in files]
    if inside:
        assert parents == [clone / name for name in ("tokenlm", "envs", "configs")]
    else:
        assert parents == [installed / "tokenlm" / name for name in (".", "envs", "configs")]


def test_the_command_runs_as_a_module_inside_a_clone(folders):
    clone, installed = folders
    assert "tokenlm" in run(installed, clone, "-m", "tokenlm", "--help")
