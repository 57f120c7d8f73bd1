"""Processes beside another end with it."""

import signal
import subprocess
import sys

import pytest

PARENT = """
import time
from tokenlm.agents.runs.processes import beside

def wait():
    print("begun", flush=True)
    time.sleep(3_600)

if __name__ == "__main__":
    child = beside(wait)
    child.start()
    child.join()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_ends_with_the_one_that_was_killed(number, tmp_path):
    """The pipe is closed when the last process that holds it has ended; before, that was the child, an hour later."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "begun\n"
        parent.send_signal(number)
        assert parent.communicate(timeout=300) == ("", None)
    assert parent.returncode == -number
