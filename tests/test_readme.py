"""The README is short, and what it shows runs as it stands there; the Chinese one shows the same."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), names)
    if "agent" in names:
        assert names["agent"].generate("今天", 2)
        assert names["agent"].transitions_trained > 10_000  # it shows training, not an untrained network
    if "best" in names:
        assert names["env"].action_space.contains(names["best"])


@pytest.mark.parametrize("text", [README, CHINESE], ids=["README.md", "README.zh.md"])
def test_it_is_short(text):
    assert len(text.splitlines()) <= 200
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables
    assert max(len(table.splitlines()) - 2 for table in tables) <= 10


def without_words(code: str) -> str:
    """Python code without comments and docstrings."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def test_both_languages_have_the_same_code():
    chinese = re.findall(r"```python\n(.*?)```", CHINESE, re.DOTALL)
    assert [without_words(code) for code in chinese] == [without_words(code) for code in EXAMPLES]


def test_both_languages_have_the_same_commands():
    def commands(text: str) -> list[str]:
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]

    assert commands(CHINESE) == commands(README)


def test_both_languages_have_the_same_figures_and_links():
    def plain(text: str) -> str:
        return re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)

    def figures(text: str) -> Counter[str]:
        return Counter(re.findall(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?", re.sub(r"[\u4e00-\u9fff]", " ", plain(text))))

    assert figures(CHINESE) == figures(README)
    links = [set(re.findall(r"\]\(([^)]*)\)", text)) - {"README.md", "README.zh.md"} for text in (CHINESE, README)]
    twins = {link: link.replace("docs/zh/", "docs/") for link in links[0] - links[1]}  # the same page in Chinese
    assert {twins.get(link, link) for link in links[0]} == links[1]
