"""Idle threads sleep soon, unless the user has said how they wait."""

import pytest

from tokenlm.threads import BLOCK_MILLISECONDS, SPINS, settle_threads


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY"):
        monkeypatch.delenv(name, raising=False)


def test_the_front_door_settles_how_threads_wait(monkeypatch):
    import os

    settle_threads()
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["KMP_BLOCKTIME"]) == (SPINS, BLOCK_MILLISECONDS)
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.delenv("KMP_BLOCKTIME")


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_users_own_setting_wins(monkeypatch, name):
    import os

    monkeypatch.setenv(name, "7")
    settle_threads()
    assert os.environ[name] == "7"
    assert len([n for n in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME") if n in os.environ]) == 1
