"""What makers of hostile files of several kinds share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Maker = Callable[[Path, Path, np.random.Generator], Path]
"""Writes a hostile file made of the good one into a folder and returns its path."""


def changed_bytes(name: str, change: Callable[[Path, np.random.Generator], Path]) -> Maker:
    """Return the maker of files called ``name``: the good one, of which ``change`` damages some bytes."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        path = folder / name
        path.write_bytes(good.read_bytes())
        return change(path, rng)

    return make


def content(name: str, data: bytes) -> Maker:
    """Return the maker of files called ``name`` with this content, whatever the good one is."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def setting(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets an entry of nested mappings."""

    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change
