"""Where the results of a long recording go: memory, a folder of .npy files, or a zarr group; written block by block."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..utils._files import PART, replace_file
from ._provenance import Provenance

STATE = "state.npz"
FACTS = "result.json"
PROVENANCE = "provenance.json"
_CHUNK = 1 << 16  # samples, or windows, in a chunk of a zarr array


class MemoryStore:
    """Plain arrays; nothing to go on from."""

    def __init__(self, shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        self.arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}

    def state(self) -> dict[str, np.ndarray] | None:
        """Return nothing: there was no run before."""
        return None

    def write(self, name: str, start: int, values: np.ndarray, axis: int) -> None:
        """Put values at a place along an axis."""
        self.arrays[name][(slice(None),) * axis + (slice(start, start + values.shape[axis]),)] = values

    def commit(self, state: Mapping[str, np.ndarray]) -> None:
        """Do nothing: memory is lost with the process."""

    def finish(self, facts: Mapping[str, Any], provenance: Provenance) -> dict[str, Any]:
        """Return the arrays."""
        return self.arrays


class NpyStore:
    """A folder of .npy files, called ``<out>.part`` until it is complete.

    Data are on the disk before the state that says so: after a kill, whatever the state does not vouch for is written
    again, to the same bits.
    """

    def __init__(self, out: Path, shapes: Mapping[str, tuple[tuple[int, ...], Any]], digest: str) -> None:
        self.out, self.part = out, out.with_name(out.name + PART)
        self.shapes, self.digest = shapes, digest
        self._refuse_strangers()
        self.part.mkdir(parents=True, exist_ok=True)
        self._state = self._found()
        if self._state is None:
            for file in self.part.iterdir():
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.arrays = self._open(create=self._state is None)

    def _refuse_strangers(self) -> None:
        """Raise ValueError where what lies under our name is not ours, before anything is deleted."""
        ours = {*(f"{name}.npy" for name in self.shapes), *self.shapes, "zarr.json", STATE, FACTS, PROVENANCE}
        strange = [self.part.name] if self.part.is_file() else []
        if self.part.is_dir():
            names = [file.name for file in self.part.iterdir()]
            strange = [name for name in names if name not in ours and not name.endswith((".partial", PART))]
        if strange:
            raise ValueError(
                f"{self.part} holds what no run of explain_record has made ({', '.join(sorted(strange)[:3])}): move it "
                "away, or pass another out"
            )

    def _found(self) -> dict[str, np.ndarray] | None:
        """Return the state of an interrupted run of the same work; ValueError where it was other work."""
        path = self.part / STATE
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                state = dict(file)
            digest = str(state.pop("digest"))
        except Exception as error:
            raise ValueError(f"{path} cannot be read: delete {self.part} to begin again ({error})") from error
        if digest != self.digest:
            raise ValueError(
                f"{self.part} holds an interrupted run with another record, explainer or other settings: run it with "
                "those to go on, delete the folder, or pass another out"
            )
        return state

    def _open(self, create: bool) -> dict[str, Any]:
        arrays = {}
        for name, (shape, dtype) in self.shapes.items():
            path = self.part / f"{name}.npy"
            if create:
                arrays[name] = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
            else:
                arrays[name] = np.load(path, mmap_mode="r+", allow_pickle=False)
        return arrays

    def state(self) -> dict[str, np.ndarray] | None:
        """Return what the last commit of an interrupted run said."""
        return self._state

    def write(self, name: str, start: int, values: np.ndarray, axis: int) -> None:
        """Put values at a place along an axis."""
        self.arrays[name][(slice(None),) * axis + (slice(start, start + values.shape[axis]),)] = values

    def commit(self, state: Mapping[str, np.ndarray]) -> None:
        """Bring data to the disk, then the state."""
        self._flush()
        replace_file(self.part / STATE, lambda file: np.savez(file, digest=self.digest, **state))
        self._reopen()

    def _flush(self) -> None:
        for array in self.arrays.values():
            array.flush()

    def _reopen(self) -> None:
        """Let go of the pages that were written: a mapped file counts as this process's memory."""
        self.arrays.clear()
        self.arrays = self._open(create=False)

    def finish(self, facts: Mapping[str, Any], provenance: Provenance) -> dict[str, Any]:
        """Give the folder its name and return its arrays, mapped for reading."""
        self._flush()
        self.arrays.clear()
        replace_file(self.part / FACTS, lambda file: file.write(json.dumps(facts, indent=1).encode()))
        provenance.to_json(self.part / PROVENANCE)
        os.replace(self.part, self.out)
        (self.out / STATE).unlink(missing_ok=True)  # after it: a kill between the two costs nothing
        return self.load(self.out)

    @staticmethod
    def load(out: Path) -> dict[str, Any]:
        """Return the arrays of a finished folder, mapped for reading."""
        return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(out.glob("*.npy"))}


class ZarrStore(NpyStore):
    """A zarr group (extra ``zarr``), called ``<out>.part`` until it is complete."""

    def _open(self, create: bool) -> dict[str, Any]:
        zarr = import_zarr()
        group = zarr.open_group(str(self.part), mode="a")
        if not create:
            return {name: group[name] for name in self.shapes}
        arrays = {}
        for name, (shape, dtype) in self.shapes.items():
            chunks = tuple(max(1, min(n, _CHUNK)) for n in shape)
            arrays[name] = group.create_array(name, shape=shape, dtype=dtype, chunks=chunks)
        return arrays

    def _flush(self) -> None:
        """Do nothing: zarr writes each chunk as a file that is whole."""

    def _reopen(self) -> None:
        """Do nothing: nothing is mapped."""

    @staticmethod
    def load(out: Path) -> dict[str, Any]:
        """Return the arrays of a finished group."""
        group = import_zarr().open_group(str(out), mode="r")
        return {name: array for name, array in group.arrays()}


def import_zarr() -> Any:
    """Return zarr; ImportError that names the pip line where it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError("out='....zarr' needs zarr: pip install skecg[zarr]") from error
    return zarr


def read_facts(out: Path) -> dict[str, Any]:
    """Return the facts of a finished result; ValueError where the folder is none."""
    path = out / FACTS
    if not path.is_file():
        raise ValueError(f"{out} exists and is no result of explain_record: pass another out")
    return json.loads(path.read_text())
