"""Where things go: no circle of imports, shared rooms know no learner, a rule's name is compared nowhere."""

import ast
import dataclasses
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from tokenlm.agents import DQN, AgentConfig
from tokenlm.agents.dqn.rules import RULES

ROOT = Path(__file__).parents[1]
FRONT = {"tokenlm", "tokenlm.agents"}  # they name what users import
SHARED = ("acting", "replay", "networks", "decoding", "evaluation", "protocol", "devices")
LEARNERS = ("dqn", "baselines", "planning", "runs", "examples")


@cache
def modules() -> dict[str, Path]:
    """Every shipped module and its file."""
    found = {}
    for folder in ("tokenlm", "envs", "agents", "configs"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names = (*(() if folder == "tokenlm" else ("tokenlm",)), *parts)
            found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imported(module: str, node: ast.AST) -> list[str]:
    """The shipped modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name in modules()]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = module.split(".")
    if node.level:
        base = base[: len(base) - node.level + (modules()[module].name == "__init__.py")]
    name = ".".join([*base, node.module] if node.module else base) if node.level else str(node.module)
    if name not in modules():
        return []
    inside = [f"{name}.{alias.name}" for alias in node.names]
    return [each if each in modules() else name for each in inside]


@cache
def imports_of(module: str) -> frozenset[str]:
    """All of them, wherever in the file they are."""
    return frozenset(name for node in ast.walk(tree_of(module)) for name in imported(module, node)) - {module}


def room_of(module: str) -> str:
    return module.split(".")[2] if module.startswith("tokenlm.agents.") else ""


def test_no_import_goes_round():
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for name in imports_of(module):
                visit(name, (*above, module))
            done.add(module)

    for module in modules():
        visit(module, ())
    assert len(done) == len(modules()) > 100


def test_imports_hidden_in_functions_are_those_that_load_torch_or_optional_libraries():
    for module in modules():
        if module.startswith("tokenlm.agents"):
            functions = [n for n in ast.walk(tree_of(module)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            hidden = [name for function in functions for node in ast.walk(function) for name in imported(module, node)]
            assert not hidden, f"{module} imports {hidden} inside a function"


def test_the_world_knows_no_agents():
    assert not [(m, n) for m in modules() if m.startswith("tokenlm.envs") for n in imports_of(m) if ".agents" in n]


def test_shared_rooms_know_no_learner():
    for module in modules():
        if room_of(module) in SHARED:
            assert not [n for n in imports_of(module) if room_of(n) in LEARNERS], module
        if room_of(module) in ("baselines", "planning"):
            assert not [n for n in imports_of(module) if room_of(n) == "dqn"], module


def test_the_learner_is_named_where_algorithms_are():
    allowed = {*FRONT, "tokenlm.agents.runs.algorithms"}
    naming = {m for m in modules() if imports_of(m) & {"tokenlm.agents.dqn.agent", "tokenlm.agents.dqn.policy"}}
    assert {m for m in naming if room_of(m) != "dqn"} <= allowed


ORDER = (
    "acting",
    "networks",
    "replay",
    "decoding",
    "protocol",
    "evaluation",
    "dqn",
    "baselines",
    "planning",
    "runs",
    "web",
    "examples",
)


def test_imports_point_downwards():
    for module in modules():
        for name in imports_of(module):
            if room_of(module) in ORDER and room_of(name) in ORDER:
                assert ORDER.index(room_of(name)) <= ORDER.index(room_of(module)), f"{module} imports {name}"
        if room_of(module) in ORDER and room_of(module) != "examples":
            assert "tokenlm.agents" not in imports_of(module), f"{module} imports the front door"


def test_nobody_asks_what_an_agent_is():
    for module in modules():
        if room_of(module) == "dqn" or module == "tokenlm.agents.runs.algorithms":
            continue
        probing = room_of(module) in ("acting", "decoding", "protocol", "evaluation")
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                asked = ast.unparse(node.args[0]).split(".")[-1]
                if node.func.id in ("getattr", "hasattr"):
                    assert not probing or asked == "self", f"{module}: {ast.unparse(node)}"
                    assert asked not in ("agent", "policy", "learner", "completed"), f"{module}: {ast.unparse(node)}"
                if node.func.id in ("isinstance", "issubclass"):
                    kinds = set(re.findall(r"\w+", ast.unparse(node.args[1])))
                    assert not kinds & {"DQN", "QPolicy", "MaximumLikelihood"}, f"{module}: {ast.unparse(node)}"


def test_the_name_of_a_rule_stands_where_rules_are():
    """Names that are no algorithm's too appear in the tables of rules alone, and where maximum likelihood is defined."""
    names = set(RULES) - {"dqn", "double"}
    allowed = {"tokenlm.agents.dqn.rules": names, "tokenlm.agents.dqn.config": {"soft_q", "cross_entropy"}}
    for module in modules():
        if module.startswith("tokenlm.agents"):
            found = {n.value for n in ast.walk(tree_of(module)) if isinstance(n, ast.Constant) and n.value in names}
            assert found <= allowed.get(module, set()), f"{module}: {found}"
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.Compare) and module != "tokenlm.agents.dqn.rules" and "loss" in ast.unparse(node):
                words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                assert not words & set(RULES), f"{module}: {ast.unparse(node)}"


def test_no_file_lies_loose():
    assert {path.name for path in (ROOT / "agents").glob("*.py")} == {"__init__.py", "protocol.py", "devices.py"}
    packaged = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for module, path in modules().items():
        if path.name == "__init__.py":
            assert f'"{module}"' in packaged, f"{module} is not in the wheel"


def test_the_settings_of_every_learner_are_few():
    assert len(dataclasses.fields(AgentConfig)) <= 25


@pytest.mark.parametrize("loss", ["soft_q", "pcl", "dqn"])
def test_from_learn_to_the_loss_in_ten_files(tiny, loss):
    """Every file of the learner and of the replay that runs from `DQN.learn` to the first loss function."""
    agent = DQN(tiny, loss=loss, num_envs=4, batch_size=4, learning_starts=10**6).learn(64, lambda _: True)
    agent.config = dataclasses.replace(agent.config, learning_starts=0)
    files: list[str] = []
    rooms = tuple(str(ROOT / "agents" / room) for room in ("dqn", "replay"))
    done = False

    def profile(frame, event, _) -> None:
        nonlocal done
        name = frame.f_code.co_filename
        if event == "call" and not done and name.startswith(rooms):
            files.append(name)
            done = name.endswith("losses.py")

    sys.setprofile(profile)
    try:
        agent.learn(4)
    finally:
        sys.setprofile(None)
    assert done
    assert len({name for name in files if "collector" not in name}) <= 10, sorted(set(files))
