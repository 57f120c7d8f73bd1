"""Faults of the file system, kills and damaged files: what of a run survives them.

    python benchmarks/faults.py [--every N] [--kills N] [--mutations N] [--seconds S] [--jobs N] [--seed N]
                                [--output FILE]

A tiny training is disturbed again and again. In turn every call that it makes to the file system inside its folder
(open, write, fsync, rename, unlink, mkdir, chmod, truncate: counted in the C library, so that those of torch and
safetensors are among them) fails as on a full disk, or is where the process is killed; writes also fail with all that
come after them, or are where it is killed after half of the bytes. Then it is killed at random moments. After each
fault the same command must end with the weights, the evaluations, the summary and the samples of an undisturbed run,
bit for bit but for times. At last a file of a run folder is damaged at random, and `generate`, `evaluate` or the
training that goes on must either say so in one sentence or give what they gave before.

Needs Linux and a C compiler. Runs are forked from a process that has imported everything.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from tokenlm.agents.runs import report
from tokenlm.cli import main as tokenlm
from tokenlm.commands import train
from tokenlm.envs.text import write_atomically

from record import print_table, write_result

NAMES = ("open", "write", "fsync", "rename", "unlink", "mkdir", "chmod", "truncate")
WRITE = NAMES.index("write")
COUNT, FAIL, FULL, KILL, HALF = range(5)
KINDS = {FAIL: "fails", FULL: "fails, and all after it", KILL: "killed before it", HALF: "killed after half of it"}
SHARES = (0.65, 0.8)  # of the time, until which single calls fail, and random kills come
MOST_SECONDS = 300.0  # of one run
MOST_BYTES = 4 << 30  # that damaged files may make a process take more than it has
TRACEBACK = 70  # exit code of a child that ended with one
RUN = {
    "name": "run",
    "env": {"target": "markov", "order": 2, "vocab_size": 12, "max_new_tokens": 4, "context_length": 5},
    "agent": {
        "network": {"name": "lstm", "embedding_size": 4, "hidden_size": 4},
        "num_envs": 4, "batch_size": 4, "learning_starts": 0, "replay_capacity": 256,
    },
    "total_steps": 12, "evaluations": 1, "evaluation_documents": 2, "evaluation_episodes": 2, "samples": 1,
    "baseline_seconds": 0.0, "checkpoint_seconds": 0.0, "device": "cpu", "threads": 1,
}  # fmt: skip
# As RUN, but with a corpus, so that its folder has a vocabulary and a tokenizer too.
TEXT = {**RUN, "env": {"corpus": "en", "tokenizer": "char", "order": 2, "max_new_tokens": 4, "context_length": 5}}

Fault = float | tuple[int, int]  # seconds after which to kill, or the number of a call and what happens there

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, FAIL, FULL, KILL, HALF };
enum { OPEN, WRITE, FSYNC, RENAME, UNLINK, MKDIR, CHMOD, TRUNCATE };
#define MOST 100000
static char folder[4096];
static unsigned char kinds[MOST];
static long calls, chosen;
static int armed, mode, reached;

void faults_arm(const char *path, long call, int how) {
    strncpy(folder, path, sizeof folder - 1);
    calls = 0; chosen = call; mode = how; reached = 0; armed = 1;
}
long faults_calls(void) { return calls; }
int faults_kind(long call) { return kinds[call]; }

static int named(const char *path) { return armed && path && !strncmp(path, folder, strlen(folder)); }
static int opened(int fd) {
    char link[64], path[4096];
    if (!armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return named(path);
}
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }
/* 1: the call is to fail; 2: half of it is to be done. */
static int fault(int kind) {
    long now = __sync_fetch_and_add(&calls, 1);
    if (now < MOST) kinds[now] = kind;
    if (mode == FULL && reached && (kind == OPEN || kind == WRITE || kind == MKDIR)) { errno = ENOSPC; return 1; }
    if (mode == COUNT || now != chosen) return 0;
    reached = 1;
    if (mode == KILL) die();
    if (mode == HALF && kind == WRITE) return 2;
    if (mode == HALF) die();
    errno = ENOSPC;
    return 1;
}
#define NEXT(type, name, ...) \
    static type (*next)(__VA_ARGS__); \
    if (!next) next = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(int, name, const char *, int, ...); \
        va_list rest; va_start(rest, flags); int how = va_arg(rest, int); va_end(rest); \
        return named(path) && fault(OPEN) ? -1 : next(path, flags, how); \
    }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name) \
    int name(int place, const char *path, int flags, ...) { \
        NEXT(int, name, int, const char *, int, ...); \
        va_list rest; va_start(rest, flags); int how = va_arg(rest, int); va_end(rest); \
        return named(path) && fault(OPEN) ? -1 : next(place, path, flags, how); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)
#define FOPENS(name) \
    FILE *name(const char *path, const char *how) { \
        NEXT(FILE *, name, const char *, const char *); \
        return named(path) && fault(OPEN) ? NULL : next(path, how); \
    }
FOPENS(fopen)
FOPENS(fopen64)

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(ssize_t, write, int, const void *, size_t);
    int found = opened(fd) ? fault(WRITE) : 0;
    if (found == 2) { next(fd, data, size / 2); die(); }
    return found ? -1 : next(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(ssize_t, writev, int, const struct iovec *, int);
    int found = opened(fd) ? fault(WRITE) : 0;
    if (found == 2) { next(fd, parts, (count + 1) / 2); die(); }
    return found ? -1 : next(fd, parts, count);
}
#define PWRITES(name) \
    ssize_t name(int fd, const void *data, size_t size, off_t at) { \
        NEXT(ssize_t, name, int, const void *, size_t, off_t); \
        int found = opened(fd) ? fault(WRITE) : 0; \
        if (found == 2) { next(fd, data, size / 2, at); die(); } \
        return found ? -1 : next(fd, data, size, at); \
    }
PWRITES(pwrite)
PWRITES(pwrite64)

#define OF_FD(name, kind) \
    int name(int fd) { NEXT(int, name, int); return opened(fd) && fault(kind) ? -1 : next(fd); }
OF_FD(fsync, FSYNC)
OF_FD(fdatasync, FSYNC)
#define OF_PATH(name, kind) \
    int name(const char *path) { NEXT(int, name, const char *); return named(path) && fault(kind) ? -1 : next(path); }
OF_PATH(unlink, UNLINK)
OF_PATH(rmdir, UNLINK)
int unlinkat(int place, const char *path, int flags) {
    NEXT(int, unlinkat, int, const char *, int);
    return (named(path) || (path[0] != '/' && opened(place))) && fault(UNLINK) ? -1 : next(place, path, flags);
}
int rename(const char *from, const char *to) {
    NEXT(int, rename, const char *, const char *);
    return named(to) && fault(RENAME) ? -1 : next(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    NEXT(int, renameat, int, const char *, int, const char *);
    return named(to) && fault(RENAME) ? -1 : next(a, from, b, to);
}
int mkdir(const char *path, mode_t how) {
    NEXT(int, mkdir, const char *, mode_t);
    return named(path) && fault(MKDIR) ? -1 : next(path, how);
}
int chmod(const char *path, mode_t how) {
    NEXT(int, chmod, const char *, mode_t);
    return named(path) && fault(CHMOD) ? -1 : next(path, how);
}
int fchmodat(int place, const char *path, mode_t how, int flags) {
    NEXT(int, fchmodat, int, const char *, mode_t, int);
    return named(path) && fault(CHMOD) ? -1 : next(place, path, how, flags);
}
int fchmod(int fd, mode_t how) {
    NEXT(int, fchmod, int, mode_t);
    return opened(fd) && fault(CHMOD) ? -1 : next(fd, how);
}
#define TRUNCATES(name) \
    int name(int fd, off_t size) { \
        NEXT(int, name, int, off_t); \
        return opened(fd) && fault(TRUNCATE) ? -1 : next(fd, size); \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)
"""


@dataclasses.dataclass
class Ending:
    """How a child ended: its exit code, -9 if it was killed; what it printed; what it took in seconds."""

    code: int
    out: str
    err: str
    seconds: float = 0.0

    @property
    def one_sentence(self) -> bool:
        """Whether it refused its input with one line, or ended well without any."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return self.code == 2 and len(lines) == 1 and lines[0].startswith("tokenlm: ")

    @property
    def orderly(self) -> bool:
        """Whether a training ended well or with one line, whatever its progress line showed before."""
        last = self.err.replace("\r", "\n").strip().rpartition("\n")[2]
        return "Traceback" not in self.err and (self.code == 0 or (self.code == 2 and last.startswith("tokenlm: ")))


@dataclasses.dataclass(frozen=True)
class ToDamage:
    """A run whose files are to be damaged.

    Args:
        config: of the run.
        unfinished: the folder of its output, with a checkpoint.
        finished: the folder of the run.
        commands: what to do with it, by name; RUN stands for its folder.
        said: what each of them prints as long as nothing is damaged.
        outcome: of the finished run.
    """

    config: Path
    unfinished: Path
    finished: Path
    commands: dict[str, list[str]]
    said: dict[str, str]
    outcome: dict[str, Any]


class Faults:
    """The runs and their faults.

    Args:
        place: a folder for them.
        seed: of the random faults.

    Attributes:
        until: no fault is begun after this time (`time.monotonic`).
    """

    def __init__(self, place: Path, seed: int = 0) -> None:
        self.place, self.until = place, float("inf")
        self.seed, self.random = seed, random.Random(seed)
        self.shim = ctypes.CDLL(os.environ["LD_PRELOAD"]) if "LD_PRELOAD" in os.environ else None
        self.config, self.text = place / "config.yaml", place / "text.yaml"
        for path, settings in ((self.config, RUN), (self.text, TEXT)):
            path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.tried: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()
        self.failures: list[str] = []
        self._number = 0
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            for config in (self.text, self.config):  # so that every child has what is made once
                tokenlm(self._train(place / "warm", config))
        # Drawing and parsing take longer than everything else; what matters here is that the picture is written.
        picture = (place / "warm" / "run" / "curves.png").read_bytes()
        parsed = {str(path): train.parse_run(self._train(place, path)[1:]) for path in (self.config, self.text)}
        report.plot_curves = lambda *parts: write_atomically(parts[-1], lambda path: path.write_bytes(picture))
        train.parse_run = lambda words, *_: dataclasses.replace(parsed[words[0]], output=words[-1].partition("=")[2])
        self.whole = place / "whole"
        first = self.child(self._train(self.whole))
        if first.code:
            raise RuntimeError(f"the undisturbed run failed: {first.err}")
        self.seconds = first.seconds
        self.expected = outcome(self.whole / "run")
        self.calls = self._calls() if self.shim else []

    def shared(self, jobs: int, work: Callable[[Faults, int], None]) -> None:
        """Do `work`, given the number of the job, in so many processes side by side, and add up what they counted."""
        places = [self.place / f"job-{job}" for job in range(jobs)]
        pids = []
        for job, place in enumerate(places):
            place.mkdir()
            pids.append(os.fork())
            if not pids[-1]:
                self.place = place
                self.random.seed(f"{self.seed} {job}")
                try:
                    work(self, job)
                    counts = [self.tried, self.survived, self.failures]
                    (place / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
                except BaseException:
                    traceback.print_exc()
                    os._exit(TRACEBACK)
                os._exit(0)
        for pid, place in zip(pids, places, strict=True):
            if os.waitpid(pid, 0)[1]:
                raise RuntimeError("a job of the harness failed")
            tried, survived, failures = json.loads((place / "counts.json").read_text(encoding="utf-8"))
            self.tried.update(tried)
            self.survived.update(survived)
            self.failures += failures
            shutil.rmtree(place)

    def every_call(self, numbers: range) -> None:
        """The calls to the file system of these numbers in turn: each fails, or the process dies there."""
        for number in numbers:
            name = NAMES[self.calls[number]]
            for mode in (FAIL, KILL, *([FULL, HALF] if name == "write" else [])):
                if time.monotonic() < self.until:
                    fault: Fault = (number, mode)
                    self._disturbed(f"{name} {KINDS[mode]}", f"call {number}", [fault])

    def kills(self, number: int) -> None:
        """SIGKILL at random moments, also of runs that go on after one."""
        done = 0
        while done < number and time.monotonic() < self.until:
            times = [self.random.uniform(0.0, self.seconds) for _ in range(min(number - done, 2))]
            done += self._disturbed("killed at a random moment", f"after {times} s", times)

    def mutations(self, number: int) -> None:
        """Random damage of one file in a run folder, then `generate`, `evaluate` or the same training again.

        Half of the folders are of a run with a corpus.
        """
        runs = [self._to_damage(config) for config in (self.config, self.text)]
        for turn in range(number):
            if time.monotonic() > self.until:
                return
            self._mutation(runs[turn % 2])

    def _to_damage(self, config: Path) -> ToDamage:
        unfinished, whole = self.place / f"unfinished-{config.stem}", self.place / f"whole-{config.stem}"
        self.child(self._train(unfinished, config), lambda: self.arm(unfinished, int(0.6 * len(self.calls)), KILL))
        if not list(unfinished.glob("run/state-*")):
            raise RuntimeError("the run that is to be damaged was killed before its first checkpoint")
        self.child(self._train(whole, config))
        finished = whole / "run"
        commands = {
            "generate": ["generate", "RUN", "--count", "2", "--device", "cpu"],
            "evaluate": ["evaluate", "RUN", "--json", "--episodes", "2", "--documents", "2", "--device", "cpu"],
        }
        said = {name: self.child(_in(words, finished)).out for name, words in commands.items()}
        return ToDamage(config, unfinished, finished, commands, said, outcome(finished))

    def _mutation(self, run: ToDamage) -> None:
        command = self.random.choice(["generate", "evaluate", "train"])
        place = self.place / "mutated"
        shutil.copytree(run.unfinished if command == "train" else run.finished, place)
        if command == "train":
            what = mutate(place / "run", self.random)
            ending = self.child(self._train(place, run.config))
            made = [outcome(path) for path in place.iterdir() if _finished(path)]
            fine = ending.one_sentence or (ending.code == 0 and ending.orderly and run.outcome in made)
        else:
            what = mutate(place, self.random)
            ending = self.child(_in(run.commands[command], place))
            fine = ending.one_sentence or (ending.code == 0 and ending.out == run.said[command])
        shutil.rmtree(place)
        self._count(f"damaged file, {command}", fine, f"{run.config.stem}: {what}", ending)

    def child(
        self, words: list[str], before: Callable[[], None] | None = None, kill_after: float | None = None
    ) -> Ending:
        """A command in a process of its own."""
        began = time.monotonic()
        out, err = self.place / "out", self.place / "err"
        pid = os.fork()
        if not pid:
            code = TRACEBACK
            try:
                for path, number in ((out, 1), (err, 2)):
                    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    os.dup2(handle, number)
                sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
                used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES,) * 2)
                signal.alarm(round(MOST_SECONDS))
                if before is not None:
                    before()
                tokenlm(words)
                code = 0
            except SystemExit as ending:
                code = ending.code if isinstance(ending.code, int) else 0
            except BaseException:
                traceback.print_exc()
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        texts = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
        return Ending(os.waitstatus_to_exitcode(status), *texts, time.monotonic() - began)

    def arm(self, folder: Path, call: int, mode: int) -> None:
        """In this process, let the call of this number inside `folder` have a fault."""
        if self.shim is None:
            raise RuntimeError("without LD_PRELOAD there are no faults of single calls")
        self.shim.faults_arm(str(folder).encode(), ctypes.c_long(call), mode)

    def _calls(self) -> list[int]:
        """The kinds of the calls that a run makes, in turn."""
        folder, kinds = self.place / "counted", self.place / "kinds"
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException), contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
                self.arm(folder, -1, COUNT)
                tokenlm(self._train(folder))
                assert self.shim is not None
                found = [self.shim.faults_kind(ctypes.c_long(i)) for i in range(self.shim.faults_calls())]
                kinds.write_bytes(bytes(found))
            os._exit(0)
        os.waitpid(pid, 0)
        shutil.rmtree(folder)
        return list(kinds.read_bytes())

    def _disturbed(self, kind: str, what: str, faults: Sequence[Fault]) -> int:
        """A run with these faults one after the other, and then without; how many came before it was finished."""
        self._number += 1
        folder = self.place / f"disturbed-{self._number}"
        words, endings = self._train(folder), []
        for fault in faults:
            if isinstance(fault, float):
                ending = self.child(words, kill_after=fault)
                if ending.code == 0:  # the fault came too late
                    break
            else:
                ending = self.child(words, lambda fault=fault: self.arm(folder, *fault))  # type: ignore[misc]
            endings.append(ending)
            if _finished(folder / "run"):
                break
        again = None if _finished(folder / "run") else self.child(words)
        fine = all(e.code == -signal.SIGKILL or e.orderly for e in endings) and (again is None or again.code == 0)
        fine = fine and [path.name for path in folder.iterdir()] == ["run"] and outcome(folder / "run") == self.expected
        fine = fine and not left_over(folder)
        for ending in endings:
            self._count(kind, fine, what, ending, again)
        shutil.rmtree(folder, ignore_errors=True)
        return len(endings)

    def _count(self, kind: str, fine: bool, what: str, ending: Ending, again: Ending | None = None) -> None:
        self.tried[kind] += 1
        self.survived[kind] += fine
        if not fine:
            said = " / ".join(f"{e.code}: {e.err.strip()[-700:]}" for e in (ending, again) if e)
            self.failures.append(f"{kind}, {what}: {said}")
            print(self.failures[-1], file=sys.stderr, flush=True)

    def _train(self, output: Path, config: Path | None = None) -> list[str]:
        return ["train", str(config or self.config), f"--output={output}"]


def outcome(folder: Path) -> dict[str, Any]:
    """What a run made: its weights, its evaluations and its summary without times, its samples."""
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {
        "weights": (folder / "weights.safetensors").read_bytes(),
        "rows": [_timeless(json.loads(line)) for line in lines],
        "summary": _timeless(summary),
        "samples": (folder / "samples.txt").read_bytes(),
    }


def left_over(folder: Path) -> list[str]:
    """Files that a finished run should not have."""
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    return [
        name for name in names if (name.startswith(".") and name not in (".lock", ".owner")) or name.startswith("state")
    ]


def mutate(folder: Path, random: random.Random) -> str:
    """Damage one file of `folder`, and say how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    path = random.choice(files)
    name, data = path.relative_to(folder).as_posix(), bytearray(path.read_bytes())
    how = random.choice(["flip", "flip", "truncate", "delete", "values", "values", "duplicate", "swap"])
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(data[: random.randrange(len(data) + 1)])
    elif how == "duplicate":
        if random.random() < 0.5:
            path.write_bytes(data + data)
        else:
            other = random.choice([file for file in files if file != path])
            shutil.copy(path, other)
            how = f"copied over {other.relative_to(folder).as_posix()}"
    elif how == "values" and path.suffix == ".json" and data:
        path.write_text(json.dumps(_with_other_values(json.loads(data), random)), encoding="utf-8")
    elif how == "values" and path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(_with_other_values(yaml.safe_load(data.decode()), random)), encoding="utf-8")
    elif how == "swap" and len(data) > 1:
        first, second = (random.randrange(len(data)) for _ in range(2))
        data[first], data[second] = data[second], data[first]
        path.write_bytes(data)
    elif data:
        for _ in range(random.choice([1, 1, 1, 8])):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
    return f"{name} {how}"


def _with_other_values(value: Any, random: random.Random) -> Any:
    """A JSON value, somewhere in which two parts have changed places, or one is another, is doubled or is gone."""
    places: list[tuple[Any, Any]] = []

    def visit(part: Any) -> None:
        for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            visit(part[key])

    visit(value)
    if not places:
        return None
    (part, key), (other, name) = random.choice(places), random.choice(places)
    how = random.choice(["swap", "other", "delete", "double"])
    if how == "swap":
        part[key], other[name] = json.loads(json.dumps([other[name], part[key]]))
    elif how == "other":
        part[key] = random.choice([None, True, -1, 0, 10**30, 1e308, "", "x" * 1000, [], {}, [[1]], {"a": "b"}])
    elif how == "delete":
        del part[key]
    elif isinstance(part, list):
        part.append(part[key])
    else:
        part[f"{key}2"] = part[key]
    return value


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if "second" not in k and not k.startswith("time_")}


def _finished(folder: Path) -> bool:
    return (folder / "summary.json").exists() and not list(folder.glob("state*"))


def _in(words: list[str], folder: Path) -> list[str]:
    return [str(folder) if word == "RUN" else word for word in words]


def _share(number: int, job: int, jobs: int) -> int:
    return number // jobs + (job < number % jobs)


def preload(place: Path) -> None:
    """Start this script anew with the counted C library calls, unless it has them; ValueError without a compiler."""
    if "LD_PRELOAD" in os.environ:
        return
    source, library = place / "faults.c", place / "faults.so"
    source.write_text(SHIM, encoding="utf-8")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ValueError("counting the calls to the file system needs a C compiler; install gcc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "FAULTS_PLACE": str(place)}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def main() -> None:
    """Run the faults, print and write how many were survived."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="of so many calls the first; 0 for none")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no fault after this time")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "faults.json")
    chosen = parser.parse_args()
    memory = Path("/dev/shm")  # fsync costs nothing there
    place = os.environ.get("FAULTS_PLACE") or tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    preload(Path(place))
    torch.set_num_threads(1)
    # The lock of tqdm is shared by forked processes: one killed while it has it would stop all that come after.
    tqdm.set_lock(threading.RLock())
    faults = Faults(Path(place), chosen.seed)
    count, jobs = len(faults.calls), chosen.jobs
    print(f"{count} calls to the file system, {faults.seconds:.2f} s a run", file=sys.stderr)

    def work(own: Faults, job: int) -> None:
        began = time.monotonic()
        own.until = began + SHARES[0] * chosen.seconds
        if chosen.every:
            own.every_call(range(job * chosen.every, count, jobs * chosen.every))
        own.until = began + SHARES[1] * chosen.seconds
        own.kills(_share(chosen.kills, job, jobs))
        own.until = began + chosen.seconds
        own.mutations(_share(chosen.mutations, job, jobs))

    faults.shared(jobs, work)
    shutil.rmtree(place)
    rows = [{"fault": kind, "tried": n, "survived": faults.survived[kind]} for kind, n in sorted(faults.tried.items())]
    total = {"fault": "all", "tried": faults.tried.total(), "survived": faults.survived.total()}
    write_result(chosen.output, [*rows, total], seed=chosen.seed, calls=count, every=chosen.every, run=RUN)
    print_table([*rows, total])
    if faults.failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
