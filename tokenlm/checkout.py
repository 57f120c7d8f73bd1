"""The parts of the package where it is imported from a clone, for `python -c` and `python -m` in the clone's folder.

There the folder `tokenlm/` comes before the installed package, and `envs/`, `agents/` and `configs/` lie beside it. So
they are looked for beside it too. An installed package has them inside; an editable install finds them by itself.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if importlib.util.find_spec("tokenlm.envs") is None and (_ROOT / "envs" / "__init__.py").is_file():
    sys.modules["tokenlm"].__path__.append(str(_ROOT))
