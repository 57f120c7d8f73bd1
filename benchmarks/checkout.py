"""Runs benchmarks from a checkout in which nothing is installed, on a machine without a network.

`make gpu-wheels` puts the wheels of the packages of `CARRIED` into build/gpu-wheels, where there is a network. All of
them are pure Python, so they fit every machine. `prepare` unpacks those that are missing there, and makes `tokenlm`
importable.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
WHEELS = BUILD / "gpu-wheels"
# Packages by the module that they bring: what a machine with torch must have, and what can be carried there.
NEEDED = {
    "torch": "torch", "numpy": "numpy", "yaml": "PyYAML", "filelock": "filelock", "matplotlib": "matplotlib",
    "safetensors": "safetensors", "tensorboard": "tensorboard", "tqdm": "tqdm", "sacrebleu": "sacrebleu",
}  # fmt: skip
CARRIED = {
    "array_api_compat": "array-api-compat", "cloudpickle": "cloudpickle", "docstring_parser": "docstring-parser",
    "farama_notifications": "farama-notifications", "gymnasium": "gymnasium", "jieba": "jieba",
    "jsonargparse": "jsonargparse", "pypinyin": "pypinyin", "typeshed_client": "typeshed-client",
}  # fmt: skip


def prepare(build: Path = BUILD, wheels: Path = WHEELS) -> str:
    """Make `tokenlm` and what it needs importable, in this process and in those that it starts.

    Args:
        build: folder of what is unpacked and linked.
        wheels: folder of the wheels.

    Returns: one sentence on what is missing; empty where nothing is.
    """
    for module, name in CARRIED.items():
        if not _found(module):
            unpack(name, wheels, build / "gpu-packages")
    _put_first(build / "gpu-packages")
    if not _found("tokenlm") or not _found("tokenlm.envs"):
        name_version(build / "gpu-version")
        _put_first(build / "gpu-version")
        _put_first(ROOT)
        for name in [name for name in sys.modules if name.split(".")[0] == "tokenlm"]:
            del sys.modules[name]  # parts of it that could be imported without the others
    missing = [name for module, name in (NEEDED | CARRIED).items() if not _found(module)]
    if not missing:
        return ""
    return (
        f"{', '.join(missing)} cannot be imported here: put the wheels into {wheels.relative_to(ROOT)} "
        "(`make gpu-wheels` where there is a network), or install the packages"
    )


def unpack(name: str, wheels: Path, into: Path) -> None:
    """Unpack the wheel of a package, if there is one; wheels themselves cannot hold files that a package reads."""
    stem = name.replace("-", "_").lower()
    for wheel in wheels.glob("*.whl"):
        if wheel.name.lower().startswith(f"{stem}-"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(into)


def name_version(into: Path) -> None:
    """Say which version this is, as an installed package does; the rest of it is found in the checkout."""
    about = into / "tokenlm-0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tokenlm\nVersion: 0+checkout\n", encoding="utf-8")


def _put_first(folder: Path) -> None:
    """First on the path of modules, here and in processes that are started from here."""
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        known = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(folder) if not known else f"{folder}{os.pathsep}{known}"
    importlib.invalidate_caches()


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # of the package that it is in
        return False


if __name__ == "__main__":
    print(*CARRIED.values())
