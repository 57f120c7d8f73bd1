"""Runs commands, each in a process of its own with little memory and time; imports only once.

Reads lines of JSON, the words of a command; writes lines of JSON: code, what it printed, seconds of the processor.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

MOST_BYTES = 1 << 30  # more than the process has
MOST_SECONDS = 60


def run(words, out):
    pid = os.fork()
    if pid:
        _, status, usage = os.wait4(pid, 0)
        return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    code = 70
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
        signal.alarm(MOST_SECONDS)
        main(words)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    import torch
    import torch._dynamo  # what any network's optimizer brings along: two seconds, of honest files too

    from tokenlm.agents.evaluation import evaluate  # noqa: F401
    from tokenlm.agents.runs import training  # noqa: F401
    from tokenlm.cli import main

    torch.set_num_threads(1)
    with tempfile.NamedTemporaryFile() as out:
        for line in sys.stdin:
            code, seconds = run(json.loads(line), out.name)
            said = Path(out.name).read_text(encoding="utf-8", errors="replace")
            print(json.dumps({"code": code, "said": said, "seconds": seconds}), flush=True)
