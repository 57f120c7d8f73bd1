"""`tokenlm play RUN` and `tokenlm serve RUN` as processes: they talk to nobody else, and end at Ctrl-C."""

import json
import re
import signal
import subprocess
import sys

import httpx
import pytest

from tokenlm.cli import main

SMALL = [
    "--agent.network.embedding_size=8", "--agent.network.hidden_size=16", "--agent.num_envs=8", "--agent.batch_size=8",
    "--agent.learning_starts=0", "--env.tokenizer=word", "--evaluation_episodes=8", "--evaluation_documents=5",
    "--evaluations=1", "--baseline_seconds=0.2", "--total_steps=200",
]  # fmt: skip
# Whoever is asked for, by name or by address, but this computer ends the process.
ALONE = """
import os, sys
from tokenlm.cli import main

def watch(event, values):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        address = values[1] if event == "socket.connect" else values[0]
        host = address[0] if isinstance(address, tuple) else address
        if host not in ("127.0.0.1", "localhost", "::1", None, b"127.0.0.1"):
            print("asks for", address, file=sys.stderr, flush=True)
            os._exit(9)

sys.addaudithook(watch)
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def run(sentences, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    (folder / "animals.txt").write_text("\n".join(sentences), encoding="utf-8")
    main(["train", str(folder / "animals.txt"), f"--output={folder}", *SMALL])
    return folder / "animals"


@pytest.mark.parametrize("command", ["play", "serve"])
def test_a_command_answers_this_computer_alone(run, command):
    words = [sys.executable, "-c", ALONE, command, str(run), "--port=0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        try:
            said = next(line for line in process.stdout if "http://" in line)
            url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
            if command == "play":
                page = httpx.get(url, timeout=600)
                assert page.status_code == 200
                assert "default-src 'self'" in page.headers["content-security-policy"]
                assert not re.findall(
                    r'(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)[^"]*\.(?:js|css|woff2?)', page.text
                )
                assert httpx.post(f"{url}/gradio_api/upload", files={"files": b"x"}, timeout=600).status_code == 413
                assert json.loads(httpx.get(f"{url}/config", timeout=600).text)["analytics_enabled"] is False
            else:
                asked = {"prompt": "the", "max_tokens": 3, "seed": 0}
                answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=600).json()
                assert answer["model"] == "animals"
                assert answer["usage"]["completion_tokens"] <= 3
            assert httpx.get(url, headers={"host": "example.org"}, timeout=600).status_code == 400
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait()
    assert code == 0
