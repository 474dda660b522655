"""Which values of a label file are classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import LabelError
from geoasanet.sample import BoolArray


def value_table(classes: ClassSchema | None) -> tuple[NDArray[np.uint8], BoolArray]:
    """Return the class id of each value 0..255, and which values are none.

    The schema's ``ignore_index`` becomes 255.
    """
    table = np.arange(256, dtype=np.uint8)
    bad = np.zeros(256, bool)
    if classes is not None:
        bad[len(classes) : NODATA] = True
        bad[classes.ignore_index] = False
        table[classes.ignore_index] = NODATA
    return table, bad


def unknown_value(path: str, value: Any, place: str, classes: ClassSchema | None) -> LabelError:
    """Return the error for a label that is no class.

    Args:
        path: The label file.
        value: What was found.
        place: Where, in words.
        classes: The schema, None where any id would do.
    """
    shown = value.item() if isinstance(value, np.generic) else value
    known = "whole numbers 0 to 254" if classes is None else ", ".join(f"{i} {n}" for i, n in enumerate(classes.names))
    return LabelError(
        f"Labels {path} hold {shown!r} {place}, which is no class.",
        f"Known are {known}. Correct the labels, or name all classes with --classes schema.yaml.",
    )
