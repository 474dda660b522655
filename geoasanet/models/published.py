"""The public data sets that original checkpoints were trained on: classes, band statistics, window.

Statistics are those of the original configurations, on values 0..255, in their channel order blue, green, red, then
SAR three times; DDHR-SK's and WHU-OPT-SAR's configurations share one set.
"""

from __future__ import annotations

from dataclasses import dataclass

from geoasanet.classes import ClassSchema

_STD_BGR = (29.48, 26.953, 24.829)


@dataclass(frozen=True, slots=True)
class PublishedData:
    """A public data set as the original configurations use it."""

    name: str
    """Its name."""
    classes: ClassSchema
    """Its classes and palette."""
    mean: tuple[float, ...]
    """Band means: blue, green, red, SAR three times."""
    std: tuple[float, ...]
    """Band deviations in the same order."""
    window_size: int
    """Side of the training crops, pixels."""


PUBLISHED: tuple[PublishedData, ...] = (
    PublishedData(
        "PIE-RGB-SAR",
        ClassSchema(
            ("background", "city", "road", "water", "forest", "farmland"),
            ((128, 128, 128), (235, 51, 36), (255, 253, 85), (66, 236, 245), (56, 168, 0), (168, 112, 0)),
        ),
        (73.422, 89.751, 83.405, 84.869, 84.869, 84.869),
        (*_STD_BGR, 57.769, 57.769, 57.769),
        256,
    ),
    PublishedData(
        "DDHR-SK",
        ClassSchema(
            ("buildings", "roads", "greenery", "water", "farmland"),
            ((255, 0, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0)),
        ),
        (80.475, 98.217, 106.364, 53.837, 53.837, 53.837),
        (*_STD_BGR, 48.475, 48.475, 48.475),
        256,
    ),
    PublishedData(
        "WHU-OPT-SAR",
        ClassSchema(
            ("farmland", "city", "village", "water", "forest", "road", "other"),
            (
                (255, 195, 128),
                (255, 0, 0),
                (159, 129, 183),
                (0, 0, 255),
                (0, 255, 0),
                (255, 255, 0),
                (255, 255, 255),
            ),
        ),
        (80.475, 98.217, 106.364, 53.837, 53.837, 53.837),
        (*_STD_BGR, 48.475, 48.475, 48.475),
        512,
    ),
)


def published_data(classes: ClassSchema | None, count: int) -> PublishedData | None:
    """Return the data set with these classes or, where none are named, with ``count`` of them.

    Class names are compared but for the first: one original configuration misspells "background".
    """
    for data in PUBLISHED:
        if len(data.classes) != count:
            continue
        if classes is None or classes.names[1:] == data.classes.names[1:]:
            return data
    return None
