"""A run in several processes, as torchrun starts them: who leads, who follows, on which device.

    torchrun --nproc-per-node 2 -m tokenlm train quickstart

The first process makes the run: it evaluates, and it alone writes. The others act and learn beside it, and hear from it
after every step whether to go on, to hand over what they have for a checkpoint, or to stop.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..dqn.ranks import Ranks, ranks
from ..protocol import BaseAgent
from .checkpoints import Checkpoints
from .config import RunConfig
from .figures import make_agent
from .interruption import watched

_PATIENCE = timedelta(minutes=30)  # the others wait while the first one evaluates; one that dies is noticed at once


class Word(IntEnum):
    """What the first process tells the others."""

    GO_ON, SAVE, END = range(3)


@contextmanager
def joined(config: RunConfig) -> Iterator[Ranks | None]:
    """Join the processes that torchrun started; None inside where this one is alone.

    Raises ValueError for a run that several processes cannot make together.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    if config.algorithm != "dqn":
        raise ValueError(
            f"several processes can train algorithm dqn, not {config.algorithm}; start it without torchrun"
        )
    on_gpu = torch.device(of_this_rank(config).device).type == "cuda"
    store, rank, size = next(rendezvous("env://"))
    # torchrun's restart meets in the same store, where the addresses of those who have died are still to be read.
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        yield ranks()
    finally:
        _leave()


def of_this_rank(config: RunConfig) -> RunConfig:
    """`config` with the device of this process: the GPU of its number, where there are GPUs."""
    if "LOCAL_RANK" not in os.environ or config.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return config
    return dataclasses.replace(config, device=f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}")


@contextmanager
def leading(group: Ranks | None, folder: Path, resumed: bool) -> Iterator[None]:
    """In the first process: the others learn inside, and end with it, for then this one goes on alone.

    Args:
        group: the processes; None where this one is alone.
        folder: of the run.
        resumed: the run continues from a checkpoint there.
    """
    if group is None:
        yield
        return
    group.told((str(folder), resumed))
    try:
        yield
        tell(group, Word.END)
    finally:  # after an error the others notice that this one has left
        _leave()


def tell(group: Ranks | None, word: Word) -> None:
    """Tell the others, from the first process."""
    if group is not None:
        group.first(float(word))


def follow(config: RunConfig, group: Ranks) -> None:
    """In the other processes: act and learn as the first one says.

    Args:
        config: of the run.
        group: the processes.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    agent = make_agent(of_this_rank(config))
    start = group.told(None)
    if start is None:  # the run was finished already
        return
    folder, resumed = start
    if resumed:
        saved, _ = Checkpoints(Path(folder)).load()
        agent.load_state_dict((saved or {})["agent"])
    elif config.continues is not None:
        begin_where_it_ended(agent, config)

    def goes_on(_: Any = None) -> bool:
        while (word := Word(int(group.first(0.0)))) is Word.SAVE:
            agent.state_dict()
        return word is Word.GO_ON

    with watched():  # a signal comes to all of them, and the first one says when to stop
        if goes_on():
            stopped = False

            def after_step(_: Any) -> bool:
                nonlocal stopped
                stopped = not goes_on()
                return not stopped

            resume = resumed or config.continues is not None
            agent.train(config.total_steps, after_step, resume=resume, max_seconds=config.max_seconds)
            if not stopped:
                goes_on()


def begin_where_it_ended(agent: BaseAgent, config: RunConfig) -> None:
    """Begin with the weights of the finished run `config.continues`, at the step where it ended."""
    agent.go_on_from(str(config.continues))
    spent = agent.learning_seconds / config.max_seconds if config.max_seconds else 0.0
    agent.progress = min(1.0, max(agent.num_steps / config.total_steps, spent))


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
