"""What the pages say is so: code runs, commands are understood, links lead somewhere, generated parts are up to date."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

import tokenlm
from tokenlm.commands import NAMES
from tokenlm.parsing import config_names, parse_race, parse_run, parse_tune

from tables import PARTS, filled, pages

ROOT = Path(__file__).parents[1]
TEXTS = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in [*pages(), ROOT / "CONTRIBUTING.md"]
}
RUNNING = [name for name, text in TEXTS.items() if re.match(r"docs/(?!zh/)", name) and "```python" in text]
FILES = {
    "poems.txt": "\n".join(["春眠不觉晓", "处处闻啼鸟", "夜来风雨声", "花落知多少", "床前明月光", "疑是地上霜"]),
    "pairs.tsv": "\n".join(f"{a} and {b}\t{b}" for a in "abcdef" for b in "uvwxyz"),
    "prompts.txt": "今天\n明天",
    "runs/quickstart-tune/best.yaml": "name: quickstart-tuned",
}


def blocks(name: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXTS[name], re.DOTALL)


@pytest.mark.parametrize("name", RUNNING)
def test_the_code_of_a_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    for number, block in enumerate(blocks(name, "python")):
        exec(compile(block, f"{name}, block {number}", "exec", dont_inherit=True), names)


def commands(text: str) -> list[list[str]]:
    """The words of each `tokenlm …` in blocks of commands and in code within a line."""
    shown = re.findall(r"```(?:bash|powershell)\n(.*?)```", text.replace("\\\n", " "), re.DOTALL)
    lines = [line for block in shown for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`(tokenlm [^`\n]+)`(?!`)", text)
    found = [re.split(r"\s#", line.strip())[0] for line in lines]
    return [shlex.split(line)[1:] for line in found if line.startswith("tokenlm ")]


@pytest.mark.parametrize("name", [name for name in TEXTS if commands(TEXTS[name])])
def test_commands_are_understood(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file, text in FILES.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text + "\n", encoding="utf-8")
    for block in (block for other in TEXTS for block in blocks(other, "yaml")):
        if named := re.match(r"# (\w+\.yaml)\n", block):
            Path(named[1]).write_text(block, encoding="utf-8")
    for command, *words in commands(TEXTS[name]):
        if any(word.isupper() or "…" in word or word.startswith("--help") for word in [command, *words]):
            continue  # a pattern, not a command
        assert command in NAMES, name
        if not words or "--continue" in words:
            continue  # a mention, or what needs a run that is finished
        if command in ("train", "config"):
            parse_run(words, command)
        elif command == "race":
            parse_race(words)
        elif command == "tune":
            parse_tune(words)
        else:
            importlib.import_module(f"tokenlm.commands.{command}")._parser().parse_args(words)


def test_configurations_named_are_shipped():
    for name, text in TEXTS.items():
        named = {words[1] for words in commands(text) if words[0] == "train" and len(words) > 1}
        named = {word for word in named if re.fullmatch(r"[a-z][\w-]*", word)}
        assert named <= set(config_names()), name


def test_links_lead_somewhere():
    for name, text in TEXTS.items():
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[\w-]*)?\)", text):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def test_the_version_to_cite_is_the_one_installed():
    assert f"\nversion: {tokenlm.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_generated_parts_are_up_to_date_and_have_a_maker():
    for name, text in TEXTS.items():
        assert set(re.findall(r"<!-- ([\w-]+):begin -->", text)) <= set(PARTS), name
        assert filled(text) == text, f"{name} is not up to date: python benchmarks/tables.py"
