"""Ctrl-C, where it is heard and where it waits."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import geoasanet as ga
from geoasanet.cli.main import main
from geoasanet.interrupt import HeldBack, garbled, never_lost
from geoasanet.raster import vectorwriter
from tests.conftest import write_raster
from tests.hostile.good import pixels


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Hear Ctrl-C as Python does; torch's launcher, which other tests use, leaves a handler of its own behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestHeldBack:
    def test_an_interruption_waits_until_the_end(self) -> None:
        reached = []
        with pytest.raises(KeyboardInterrupt), HeldBack():
            signal.raise_signal(signal.SIGINT)
            reached.append(1)
        assert reached == [1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_or_until_it_is_asked_for(self) -> None:
        with HeldBack() as held:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                held.check()
            held.check()  # once

    def test_in_a_passage_it_is_raised_at_once(self) -> None:
        with HeldBack() as held:
            with pytest.raises(KeyboardInterrupt), held.passage():
                signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt), held.passage():
                pytest.fail("one that waits is raised before anything is done")

    def test_other_threads_and_ignored_signals_are_left_alone(self) -> None:
        inside: list[Any] = []

        def work() -> None:
            with HeldBack():
                inside.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert inside == [signal.default_int_handler]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with HeldBack():
                assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Interrupted:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class _Broken:
    def __del__(self) -> None:
        raise ValueError("of a destructor")


class TestNeverLost:
    def test_an_interruption_in_a_destructor_is_raised_again(self) -> None:
        reached = []
        with pytest.raises(KeyboardInterrupt), never_lost():
            _Interrupted()
            reached.append(1)  # Python itself lets it go
            time.sleep(30)
        assert reached == [1]

    def test_it_wakes_a_wait(self) -> None:
        with pytest.raises(KeyboardInterrupt), never_lost():
            _Interrupted()
            threading.Event().wait(30)

    def test_other_errors_are_reported_as_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reported: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", reported.append)
        hook = sys.unraisablehook
        with never_lost():
            _Broken()
        assert [lost.exc_type for lost in reported] == [ValueError] and sys.unraisablehook is hook

    def test_nothing_is_raised_after_the_end(self) -> None:
        with never_lost():
            _Interrupted()
        time.sleep(0.1)


def test_an_interruption_within_compiled_code_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's functions have returned a result with Ctrl-C's exception set, for which Python has an error."""

    def interrupted(*args: Any, **kwargs: Any) -> None:
        try:
            raise SystemError("returned a result with an exception set") from KeyboardInterrupt()
        except SystemError as error:
            raise SystemError("returned a result with an exception set") from error

    monkeypatch.setattr("geoasanet.tools.info.info", interrupted)
    done = CliRunner().invoke(main, ["info", "map.tif"])
    assert done.exit_code == 130 and "Interrupted." in done.output
    assert not garbled(SystemError("of another kind")) and not garbled(KeyboardInterrupt())


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet", ".geojson", ".shp"])
def test_while_a_library_asks_for_polygons_it_is_not_lost(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL takes an interruption between two batches for an error of its stream."""
    source = write_raster(tmp_path / "map.tif", pixels("classes", np.random.default_rng(1)), nodata=255)
    next_ = vectorwriter._Stream._next

    def interrupted(self: Any, batches: Any) -> Any:
        record = next_(self, batches)
        signal.raise_signal(signal.SIGINT)
        return record

    monkeypatch.setattr(vectorwriter._Stream, "_next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ga.vectorize(source, out=tmp_path / f"p{suffix}", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
