"""Python's search for cyclic garbage: when it rests."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

import geoasanet
from geoasanet.garbage import uncollected
from geoasanet.models.registry import model_names


def test_it_rests_while_libraries_are_imported() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_a_failure() -> None:
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


def test_who_has_switched_it_off_finds_it_so() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_users_objects_are_not_left_out_of_later_searches() -> None:
    with uncollected():
        pass
    assert gc.get_freeze_count() == 0


OWN = """
import gc
from geoasanet.garbage import own_process, uncollected
own_process()
with uncollected():
    with uncollected():
        import numpy
    assert gc.get_freeze_count() == 0
assert gc.isenabled()
count = gc.get_freeze_count()
assert count > 1000
with uncollected():  # imports nothing
    kept = [[] for _ in range(1000)]
assert gc.get_freeze_count() <= count
import atexit
atexit._run_exitfuncs()
assert gc.get_freeze_count() == 0
"""


def test_what_the_command_imports_is_left_out_until_it_ends() -> None:
    done = subprocess.run([sys.executable, "-c", OWN], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", model_names())
def test_networks_are_freed_without_a_search(name: str) -> None:
    """Commands leave those that are there when their libraries are out of all searches."""
    network = geoasanet.create_model(name, num_classes=2)
    gone = weakref.ref(next(network.parameters()))
    gc.collect()
    gc.disable()
    try:
        del network
        assert gone() is None
    finally:
        gc.enable()
