"""A scene to be cut into tiles, as plain values: it can be opened here, or by a worker elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from geoasanet.errors import GeoASANetError
from geoasanet.raster.split import BlockLayout
from geoasanet.raster.tileplan import SceneFiles, ScenePlan, TileSpec
from geoasanet.raster.tiles import SceneCutter, open_cutter


@dataclass(frozen=True, slots=True)
class TileScene:
    """A scene that was looked into, and what its tiles are like."""

    plan: ScenePlan
    number: int
    """Its position in the list of scenes."""
    layout: BlockLayout
    """Where its tiles are."""
    spec: TileSpec
    on_error: str
    """What a block is that cannot be read: "fail" or "nodata"."""

    @contextlib.contextmanager
    def cutter(self, workers: int) -> Iterator[SceneCutter]:
        """Open the scene for cutting in ``workers`` threads; see :func:`geoasanet.raster.tiles.open_cutter`."""
        palette = {} if self.spec.classes is None else dict(enumerate(self.spec.classes.colors))
        with (
            named(self.plan.files),
            open_cutter(
                self.plan, self.number, self.layout, self.spec, palette, workers=workers, on_error=self.on_error
            ) as cutter,
        ):
            yield cutter


@contextlib.contextmanager
def named(scene: SceneFiles) -> Iterator[None]:
    """Say in errors where a scene was named."""
    try:
        yield
    except GeoASANetError as error:
        if not scene.place or str(error.args[0]).startswith(scene.place):
            raise
        raise type(error)(f"{scene.place}{error.args[0]}", error.hint) from error
