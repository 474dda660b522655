"""Rows of windows that two workers need are run by one of them, and the map is the same."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoasanet.errors import OutputError
from geoasanet.inference.lentrows import LentRows
from geoasanet.inference.mapping import MapJob, MapLayout, map_into, runs
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.workers import share_rows
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.scaling import Scaling
from geoasanet.sample import RowBand
from geoasanet.windows import Tiling, Window
from tests.conftest import PlaceNet

Files = Callable[..., tuple[Path, Path]]
CPU = torch.device("cpu")


class Scene:
    """A scene to map, and how often the network ran over a window."""

    def __init__(self, files: tuple[Path, Path], overlap: int) -> None:
        rgb, sar = map(str, files)
        self.job = MapJob(
            rgb, sar, (1, 2, 3), (1,), Scaling("linear", "linear"), "mask", 64, overlap, "hann", keep_confidence=True
        )
        with self.job.open_scene(None) as scene:
            self.layout = MapLayout.of(self.job, scene.grid, None)
        self.windows = 0

    def map(self, rows: list[range] | tuple[range, ...], lent: LentRows | None = None) -> list[RowBand]:
        """Return what ``rows`` finish."""
        network, bands = PlaceNet(), []

        def counting(rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
            self.windows += len(rgb)
            return network(rgb, sar)

        class Spool(RowSpool):
            def __init__(self) -> None: ...

            def write(self, band: RowBand) -> None:
                bands.append(band)

        predictor = Predictor(counting, None, 4, device=CPU, leave_softmax=True)
        map_into(Spool(), self.job, predictor, rows, lambda count: None, lent)
        return bands


def same(found: list[RowBand], expected: list[RowBand]) -> None:
    assert [band.row for band in found] == [band.row for band in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.classes, b.classes)
        np.testing.assert_array_equal(a.confidence, b.confidence)


@pytest.mark.parametrize(("overlap", "workers"), [(16, 2), (16, 4), (40, 3)])
def test_no_window_is_run_twice_and_the_map_is_the_same(
    scene_files: Files, tmp_path: Path, overlap: int, workers: int
) -> None:
    valid = np.ones((430, 150), bool)
    valid[200:300, :90] = False  # windows without a prediction
    files = scene_files(430, 150)
    without_data(files[0], valid)
    scene = Scene(files, overlap)
    rows = scene.layout.plan.rows
    whole, once = scene.map([rows]), scene.windows
    assert once < len(scene.layout.plan)
    lead = len(scene.layout.plan.leading_to(rows[-1:]).rows) - 1
    shares = share_rows([rows], workers, lead, lent=True)
    lent = LentRows.between(shares, scene.layout.plan, tmp_path / "lent")
    assert len(lent.rows) == lead * (workers - 1)
    scene.windows = 0
    found = [scene.map(share, lent) for share in reversed(shares)]
    same([band for bands in reversed(found) for band in bands], whole)
    assert scene.windows == once

    scene.windows = 0  # nobody was in time
    same(scene.map(shares[0], LentRows.between(shares, scene.layout.plan, tmp_path / "lent")), whole[: len(found[-1])])
    assert scene.windows > 0


def without_data(path: Path, valid: np.ndarray) -> None:
    import rasterio

    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = 0
        dataset.write(np.where(valid, dataset.read().clip(1), 0).astype(np.uint8))


@given(st.lists(st.integers(0, 40), min_size=1, unique=True), st.integers(1, 5), st.integers(0, 200))
def test_rows_are_lent_where_one_worker_leads_through_those_of_another(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], workers: int, overlap: int
) -> None:
    plan = Tiling.over(256 + 40 * (256 - overlap), 256, size=256, overlap=overlap)
    plan = plan.touching(Window(0, 0, plan.height, plan.width))
    shares = share_rows(runs(sorted(numbers)), workers)
    lent = LentRows.between(shares, plan, tmp_path_factory.getbasetemp() / "lent")
    for row in range(41):
        owners = sum(any(row in run for run in share) for share in shares)
        leads = any(row in plan.leading_to(run).rows and row not in run for share in shares for run in share)
        assert (row in lent.rows) == (owners == 1 and leads)


class TestFiles:
    """Predictions on disk."""

    PREDICTIONS = (torch.arange(8.0).view(2, 2, 2), None, torch.full((2, 2, 2), torch.inf))

    def lend(self, lent: LentRows, index: int = 3) -> None:
        with lent.lending(index) as keep:
            for prediction in self.PREDICTIONS:
                assert keep(prediction) is prediction
            assert lent.lent(index) is None  # not whole yet

    def test_predictions_come_back_bit_for_bit(self, tmp_path: Path) -> None:
        lent = LentRows(tmp_path, frozenset([3]))
        self.lend(lent)
        found = lent.lent(3)
        assert found is not None
        for a, b in zip(found, self.PREDICTIONS, strict=True):
            assert a is b is None or torch.equal(a, b)
        assert lent.lent(4) is None and LentRows.none().lent(3) is None

    def test_rows_that_nobody_else_needs_are_not_kept(self, tmp_path: Path) -> None:
        self.lend(LentRows(tmp_path, frozenset([4])))
        assert not list(tmp_path.iterdir())

    def test_what_was_interrupted_does_not_count(self, tmp_path: Path) -> None:
        lent = LentRows(tmp_path, frozenset([3]))
        with pytest.raises(KeyboardInterrupt), lent.lending(3) as keep:
            keep(self.PREDICTIONS[0])
            raise KeyboardInterrupt
        assert lent.lent(3) is None

    def test_a_full_disk_only_means_that_others_run_the_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        lent = LentRows(tmp_path, frozenset([3]))
        self.lend(lent)
        assert lent.lent(3) is None and not list(tmp_path.iterdir())
        missing = LentRows(tmp_path / "missing", frozenset([3]))
        self.lend(missing)
        assert missing.lent(3) is None

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        lent = LentRows(tmp_path, frozenset([3]))
        self.lend(lent)
        path = tmp_path / "3.npy"
        path.write_bytes(path.read_bytes()[:-5])
        found = lent.lent(3)
        assert found is not None
        with pytest.raises(OutputError, match=r"3\.npy cannot be read"):
            list(found)
