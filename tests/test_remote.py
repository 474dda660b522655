"""Inputs on a web server: only the windows that are needed are fetched, and the result is that of local files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil

import geoasanet
from geoasanet.errors import OutputError, SceneError
from geoasanet.files import check_local
from geoasanet.raster.probes import probe_windows
from geoasanet.raster.remote import file_stem, is_remote, open_options, refusal
from geoasanet.raster.scene import default_map_path
from geoasanet.raster.source import RasterSource
from geoasanet.tools.info import info
from geoasanet.tools.predict import predict
from geoasanet.tools.tile import tile
from geoasanet.tools.vectorize import vectorize
from geoasanet.windows import Window
from tests.conftest import UTM, PixelNet, write_raster

CLASSES = ["water", "forest", "field", "town", "bare"]
SIDE = 1024


@dataclass(frozen=True)
class Server:
    """A running server of a folder."""

    folder: Path
    log: Path
    port: int

    def url(self, name: str, manner: str = "good") -> str:
        return f"http://127.0.0.1:{self.port}/{manner}/{name}"

    def requests(self, name: str = "") -> list[dict[str, Any]]:
        """Return what was asked for since the last call."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        self.log.write_text("")
        return [entry for entry in found if name in entry["path"]]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a scene of two COGs of noise, which does not compress."""
    folder, log = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("log") / "requests.jsonl"
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    sar = rng.gamma(4, 0.05, (1, SIDE, SIDE)).astype(np.float32)
    for name, pixels in (("rgb.tif", rgb), ("sar.tif", sar)):
        plain = write_raster(log.with_name(name), pixels)
        rasterio.shutil.copy(plain, folder / name, driver="COG", BLOCKSIZE="128", COMPRESS="DEFLATE")
    labels = (rgb[0] // 52).astype(np.uint8)
    write_raster(folder / "labels.tif", labels, tiled=True, blockxsize=128, blockysize=128)
    log.write_text("")
    program = Path(__file__).with_name("rangeserver.py")
    process = subprocess.Popen([sys.executable, program, folder, log], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield Server(folder, log, int(process.stdout.readline()))
    process.kill()
    process.stdout.close()
    process.wait()


@pytest.fixture(autouse=True)
def asked(request: pytest.FixtureRequest) -> None:
    """Forget earlier requests."""
    if "server" in request.fixturenames:
        request.getfixturevalue("server").requests()


def run_predict(rgb: object, sar: object, out: Path, **options: Any) -> Path:
    arguments: dict[str, Any] = {"model": PixelNet(), "classes": CLASSES, "window": 64, **options}
    return predict(str(rgb), str(sar), out=out, **arguments).map


def box(rows: slice, cols: slice) -> tuple[float, float, float, float]:
    left, top = UTM @ (cols.start, rows.start)
    right, bottom = UTM @ (cols.stop, rows.stop)
    return left, bottom, right, top


class TestReading:
    """What comes over the network."""

    def test_the_map_of_a_url_is_that_of_the_file_and_only_its_windows_are_fetched(
        self, server: Server, tmp_path: Path
    ) -> None:
        bbox = box(slice(300, 430), slice(500, 640))
        local = run_predict(server.folder / "rgb.tif", server.folder / "sar.tif", tmp_path / "local.tif", bbox=bbox)
        remote = run_predict(server.url("rgb.tif"), server.url("sar.tif"), tmp_path / "remote.tif", bbox=bbox)
        assert remote.read_bytes() == local.read_bytes()
        found = server.requests()
        for name in ("rgb.tif", "sar.tif"):
            size = (server.folder / name).stat().st_size
            data = [entry for entry in found if name in entry["path"]]
            assert 0 < sum(entry["bytes"] for entry in data) < 0.25 * size
            assert all(entry["status"] == 206 for entry in data if entry["bytes"])
        assert len(found) < 80

    def test_the_whole_map_fetches_about_every_byte_once(self, server: Server, tmp_path: Path) -> None:
        local = run_predict(server.folder / "rgb.tif", server.folder / "sar.tif", tmp_path / "local.tif")
        whole = server.url("rgb.tif?whole"), server.url("sar.tif?whole")  # of which GDAL has nothing in its cache
        remote = run_predict(*whole, tmp_path / "remote.tif")
        assert remote.read_bytes() == local.read_bytes()
        size = sum((server.folder / name).stat().st_size for name in ("rgb.tif", "sar.tif"))
        assert sum(entry["bytes"] for entry in server.requests()) < 1.2 * size

    def test_info(self, server: Server) -> None:
        result = info(server.url("rgb.tif"))
        assert result.fit and result.kind == "raster" and result.facts["height"] == SIDE

    def test_a_bucket(self, server: Server, tmp_path: Path) -> None:
        environment = {
            **os.environ,
            "AWS_S3_ENDPOINT": f"127.0.0.1:{server.port}",
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_NO_SIGN_REQUEST": "YES",
        }
        done = run_command(["info", "s3://good/sar.tif", "--json"], tmp_path, environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["width"] == SIDE
        assert {entry["status"] for entry in server.requests("/good/sar.tif") if entry["bytes"]} == {206}

    def test_gdals_own_paths(self, server: Server) -> None:
        path = f"/vsicurl/{server.url('sar.tif')}"
        source = RasterSource(path, [1])
        found, _ = source.read(Window(40, 30, 20, 10))
        source.close()
        with rasterio.open(server.folder / "sar.tif") as dataset:
            np.testing.assert_array_equal(found, dataset.read()[:, 40:60, 30:40])

    def test_a_mask_beside_the_file_counts(self, server: Server) -> None:
        pixels = np.full((1, 64, 64), 7, np.uint8)
        mask = np.full((64, 64), 255, np.uint8)
        mask[:20] = 0
        path = server.folder / "masked.tif"
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
            rasterio.open(
                path, "w", driver="GTiff", count=1, height=64, width=64, dtype="uint8", crs="EPSG:32650", transform=UTM
            ) as dataset,
        ):
            dataset.write(pixels)
            dataset.write_mask(mask)
        assert path.with_suffix(".tif.msk").exists()
        source = RasterSource(server.url("masked.tif"), [1])
        _, valid = source.read(Window(0, 0, 64, 64))
        source.close()
        np.testing.assert_array_equal(valid, mask > 0)

    def test_polygons_of_a_map_on_a_server(self, server: Server, tmp_path: Path) -> None:
        bbox = box(slice(0, 100), slice(0, 100))
        path = run_predict(server.folder / "rgb.tif", server.folder / "sar.tif", server.folder / "map.tif", bbox=bbox)
        local = vectorize(path, out=tmp_path / "local.fgb")
        remote = vectorize(server.url("map.tif"), out=tmp_path / "remote.fgb")
        assert remote.polygons == local.polygons > 0
        tables = [pyogrio.read_dataframe(tmp_path / name) for name in ("local.fgb", "remote.fgb")]
        assert tables[0].equals(tables[1])

    def test_tiles_of_a_scene_on_a_server(self, server: Server, tmp_path: Path) -> None:
        names = ("rgb.tif", "sar.tif", "labels.tif")
        options: dict[str, Any] = {"size": 256, "block": 1}
        rgb, sar, labels = (server.folder / name for name in names)
        tile(rgb, sar, labels=labels, out=tmp_path / "local", **options)
        at = [server.url(name) for name in names]
        tile(at[0], at[1], labels=at[2], out=tmp_path / "remote", **options)
        tiles = sorted(path.relative_to(tmp_path / "local") for path in (tmp_path / "local").glob("*/*.tif"))
        assert len(tiles) == 3 * (SIDE // 256) ** 2
        for name in tiles:
            assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


class TestFaults:
    """What a server does wrong."""

    def test_a_busy_server_is_asked_again(self, server: Server) -> None:
        source = RasterSource(server.url("rgb.tif", "flaky"), [1, 2, 3])
        found, valid = source.read(Window(100, 100, 60, 20))
        source.close()
        with rasterio.open(server.folder / "rgb.tif") as dataset:
            np.testing.assert_array_equal(found, dataset.read()[:, 100:160, 100:120])
        assert valid.all()
        assert {503, 206} <= {entry["status"] for entry in server.requests()}

    @pytest.mark.parametrize(
        ("manner", "name", "words"),
        [
            ("good", "nothing.tif", "answers 404 Not Found"),
            ("secret", "rgb.tif", "answers 403 Forbidden"),
            ("plain", "rgb.tif", "sends whole files only, not ranges"),
        ],
    )
    def test_the_servers_own_words_are_said(self, server: Server, manner: str, name: str, words: str) -> None:
        url = server.url(name, manner)
        with pytest.raises(SceneError, match=words) as caught:
            RasterSource(url, [1], "RGB")
        assert url in str(caught.value) and "download" in caught.value.hint

    def test_a_server_that_is_not_there(self) -> None:
        url = "http://127.0.0.1:9/rgb.tif"
        with pytest.raises(SceneError, match="no answer from the server") as caught:
            RasterSource(url, [1], "RGB")
        assert url in str(caught.value)

    def test_a_server_that_breaks_off_is_one_error_with_advice(self, server: Server, tmp_path: Path) -> None:
        environment = {**os.environ, "GDAL_HTTP_MAX_RETRY": "1", "GDAL_HTTP_RETRY_DELAY": "0.1"}
        done = run_command(["info", server.url("sar.tif", "broken")], tmp_path, environment)
        assert done.returncode == 1
        assert "sar.tif" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    def test_a_server_that_says_nothing_is_given_up(self, server: Server, tmp_path: Path) -> None:
        environment = {**os.environ, "GDAL_HTTP_LOW_SPEED_TIME": "1", "GDAL_HTTP_MAX_RETRY": "0"}
        code = "import sys; from geoasanet.raster import remote, source; remote._PROBE_SECONDS = 1\n"
        code += "try: source.open_dataset(sys.argv[1], 'SAR')\nexcept OSError as error: print(error)"
        command = [sys.executable, "-c", code, server.url("sar.tif", "silent")]
        options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True, "capture_output": True}
        done = subprocess.run(command, check=False, timeout=60, **options)
        assert "sar.tif" in done.stdout and "timed out" in done.stdout


def run_command(arguments: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "geoasanet", *arguments]
    return subprocess.run(
        command, check=False, cwd=folder, env=environment, text=True, capture_output=True, timeout=120
    )


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("https://host/a.tif", True),
        ("s3://bucket/a.tif", True),
        ("/vsis3/bucket/a.tif", True),
        ("/vsizip//vsicurl/https://host/a.zip/a.tif", True),
        ("/vsicurl_streaming/https://host/a.tif", True),
        ("file:///data/a.tif", False),
        ("/vsizip/a.zip/a.tif", False),
        ("/data/vsis3/a.tif", False),
        ("C:/a.tif", False),
    ],
)
def test_what_is_remote(path: str, remote: bool) -> None:
    assert is_remote(path) is remote
    assert ("GDAL_DISABLE_READDIR_ON_OPEN" in open_options(path)) is remote


def test_default_names_leave_out_what_follows_a_question_mark() -> None:
    assert file_stem("https://host/folder/scene.tif?sig=a.b/c") == "scene"
    assert file_stem("folder/what?.tif") == "what?"
    assert default_map_path("s3://bucket/") == Path("bucket_landcover.tif")


@pytest.mark.parametrize(
    ("size", "block", "block_bytes"),
    [
        ((6144, 6144), (512, 512), 512 * 512 * 3),
        ((6144, 6144), (1024, 1024), 1024 * 1024 * 12),
        ((5000, 7001), (256, 256), 256 * 256),
        ((9000, 4000), (1, 4000), 4000 * 3),
        ((40, 30), (8, 30), 240),
        ((100, 70), (128, 128), 128 * 128),
    ],
)
def test_a_look_at_a_raster_costs_little(size: tuple[int, int], block: tuple[int, int], block_bytes: int) -> None:
    windows = probe_windows(*size, block, block_bytes)
    touched = {
        (row, col)
        for w in windows
        for row in range(w.row // block[0], (w.row_stop - 1) // block[0] + 1)
        for col in range(w.col // block[1], (w.col_stop - 1) // block[1] + 1)
    }
    assert len(touched) * block_bytes <= max(8 << 20, 9 * block_bytes)
    assert len(probe_windows(*size, block, block_bytes, thorough=True)) >= len(windows)
    assert all(w.row >= 0 and w.row_stop <= size[0] and w.col >= 0 and w.col_stop <= size[1] for w in windows)
    assert windows[0].row == windows[0].col == 0 and len(set(windows)) == len(windows)
    assert max(w.row_stop for w in windows) > 0.8 * size[0] and max(w.col_stop for w in windows) > 0.8 * size[1]


def test_the_only_data_of_a_raster_is_found(tmp_path: Path) -> None:
    pixels = np.zeros((3, 2048, 2048), np.uint8)
    pixels[:, 340:420, 340:420] = 9
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0, tiled=True, blockxsize=1024, blockysize=1024)
    source = RasterSource(path, [1, 2, 3])
    assert 0 < source.sample_pixels().size == (source.sample_pixels() == 9).sum()
    source.close()


def test_only_web_servers_are_asked_why() -> None:
    assert refusal("s3://bucket/a.tif") is None
    assert refusal("file:///etc/hostname") is None


@pytest.mark.parametrize(
    "out", ["s3://bucket/map.tif", "https://host/map.tif", "/vsis3/bucket/map.tif", "/vsimem/map.tif"]
)
class TestOutputs:
    """Outputs go to disks."""

    def test_predict(self, scene_files: Callable[..., tuple[Path, Path]], out: str) -> None:
        with pytest.raises(OutputError, match="not on a disk") as caught:
            run_predict(*scene_files(70, 70), Path(out))
        assert out in str(caught.value) and "upload" in caught.value.hint

    def test_tile_and_train(self, scene_files: Callable[..., tuple[Path, Path]], out: str) -> None:
        with pytest.raises(OutputError, match="not on a disk"):
            tile(*scene_files(70, 70), out=out, size=64)
        with pytest.raises(OutputError, match="not on a disk"):
            geoasanet.train(out=out)


def test_a_folder_of_such_a_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ab:").mkdir()
    check_local(Path("ab:/map.tif"))
