"""The folder of a cohort's results: relevance written by the workers, and what tells which blocks are done."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..explain import Provenance
from ..explain._store import FACTS, PROVENANCE, import_zarr
from ..utils._files import PART, replace_file
from ._records import Block, write_npy

if TYPE_CHECKING:
    from ._blocks import Done

FUNCTION = "explain_cohort"
IDENTITY = "cohort.json"
BLOCKS = "blocks"
SPOOL = "spool"
AGGREGATOR = "aggregator.npz"
RELEVANCE = "relevance"
_LARGEST = 32 << 20  # bytes of a zarr chunk, about


@dataclass(frozen=True)
class Writer:
    """What a worker needs to write a block.

    Parameters
    ----------
    part : str
        The folder, under the name that it has while it is not complete.
    digest : str
        Of the whole work.
    offset : int or None
        Where the values begin in the .npy file; None for zarr.
    """

    part: str
    digest: str
    offset: int | None

    def write(self, block: Block, relevance: np.ndarray, done: Done) -> None:
        """Bring the relevance to the disk, then what says that the block is done."""
        folder = Path(self.part)
        if not (folder / IDENTITY).is_file():
            raise RuntimeError(
                f"{folder} is not there on {socket.gethostname()}: every worker must see the folder out, under the "
                "same path"
            )
        if self.offset is None:
            array = import_zarr().open_array(str(folder / RELEVANCE), mode="r+")
            array[block.first : block.first + block.size] = relevance
        else:
            # plain writes, since a full disk under a memory map kills the process instead of raising an error
            with open(folder / f"{RELEVANCE}.npy", "r+b", buffering=0) as file:
                file.seek(self.offset + block.first * relevance[0].nbytes)
                view = memoryview(np.ascontiguousarray(relevance)).cast("B")
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
        facts = {
            "block": identity_of(self.digest, block),
            "n_missing": done.n_missing,
            "doubts": done.doubts,
            "skipped": done.skipped,
            "notes": done.notes,
            "warned": done.warned,
            "inputs": done.inputs,
            "ranges": done.ranges,
            "aggregator": done.facts,
        }
        arrays = {"score": done.score, "probability": done.probability, "code": done.code}
        arrays |= {f"aggregator_{name}": values for name, values in done.arrays.items()}
        state = folder / BLOCKS / f"{block.number:08d}.npz"
        replace_file(state, lambda file: np.savez(file, facts=np.array(json.dumps(facts)), **arrays))


def identity_of(digest: str, block: Block) -> list:
    """Return what a finished block must say of itself to be taken for this one."""
    return [digest, block.number, block.first, block.size, block.content]


class Folder:
    """A cohort's folder, called ``<out>.part`` until it is complete.

    Parameters
    ----------
    out : pathlib.Path
        Its name; one that ends in .zarr makes it a zarr group.
    digest : str
        Of the work.
    """

    def __init__(self, out: Path, digest: str) -> None:
        self.out, self.digest = out, digest
        self.part = out.with_name(out.name + PART)
        self.zarr = out.suffix == ".zarr"
        if self.zarr:
            import_zarr()
        self._done: set[str] = set()

    def finished(self) -> bool:
        """Tell whether this work is complete; ValueError, and nothing touched, where something else has its place."""
        if self.out.exists():
            path = self.out / FACTS
            facts = _read_json(path) if path.is_file() else {}
            if facts.get("function") != FUNCTION:
                raise ValueError(f"{self.out} exists and is no result of explain_cohort: pass another out")
            if facts.get("digest") != self.digest:
                raise ValueError(f"{self.out} {_OTHER}: delete it, or pass another out")
            return True
        if self.part.is_dir():
            there = {file.name for file in self.part.iterdir()}
            if IDENTITY not in there and there - {IDENTITY + PART}:
                raise ValueError(
                    f"{self.part} is no interrupted run of explain_cohort: move it away, or pass another out"
                )
            if IDENTITY in there and _read_json(self.part / IDENTITY).get("digest") != self.digest:
                raise ValueError(
                    f"{self.part} {_OTHER}, interrupted: call it with those to go on, delete the folder, or pass "
                    "another out"
                )
        elif self.part.exists():
            raise ValueError(f"{self.part} is a file, and the name of the unfinished folder: move it away")
        return False

    def compare(self, contents: str) -> None:
        """Raise ValueError unless a finished folder is of records with this digest, which only their end tells."""
        if _read_json(self.out / FACTS)["records"].get("sha256") != contents:
            raise ValueError(f"{self.out} {_OTHER}: delete it, or pass another out")

    def begin(self, shape: tuple[int, ...], sizes: np.ndarray | None) -> Writer:
        """Make the folder or go on with it; ``sizes`` of the blocks are None where nobody knows them."""
        self.part.mkdir(parents=True, exist_ok=True)
        facts = {"function": FUNCTION, "digest": self.digest}
        if not (self.part / IDENTITY).is_file():
            replace_file(self.part / IDENTITY, lambda file: file.write(json.dumps(facts).encode()))
        shutil.rmtree(self.part / SPOOL, ignore_errors=True)  # of a run that was killed
        (self.part / BLOCKS).mkdir(exist_ok=True)
        self._done = {file.name for file in (self.part / BLOCKS).iterdir()}
        return Writer(str(self.part.absolute()), self.digest, self._begin_array(shape, sizes))

    def _begin_array(self, shape: tuple[int, ...], sizes: np.ndarray | None) -> int | None:
        if self.zarr:
            group = import_zarr().open_group(str(self.part), mode="a")
            if RELEVANCE not in group:
                chunks = (_chunk(sizes, 4 * int(np.prod(shape[1:]))), *shape[1:])
                group.create_array(RELEVANCE, shape=shape, dtype=np.float32, chunks=chunks, fill_value=np.nan)
            return None
        path = self.part / f"{RELEVANCE}.npy"
        if not path.is_file():
            header = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                "fortran_order": False,
                "shape": shape,
            }

            def write(file: Any) -> None:
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + 4 * int(np.prod(shape)))

            replace_file(path, write)
        return int(np.load(path, mmap_mode="r", allow_pickle=False).offset)

    def grow(self, n_windows: int) -> None:
        """Let the array have so many windows; each worker finds the new size or the old one, never half of it."""
        array = import_zarr().open_array(str(self.part / RELEVANCE), mode="r+")
        if array.shape[0] < n_windows:
            array.resize((n_windows, *array.shape[1:]))

    def state(self, block: Block) -> Done | None:
        """Return a block that is done, None where it is not or is another one."""
        from ._blocks import Done

        name = f"{block.number:08d}.npz"
        path = self.part / BLOCKS / name
        if name not in self._done and not path.is_file():
            return None
        try:
            facts, found = _load_npz(path)
        except Exception:  # damaged: the block is done again
            return None
        if facts.pop("block", None) != identity_of(self.digest, block):
            return None
        inside = "aggregator_"
        return Done(
            block.number,
            **{name: found[name] for name in ("score", "probability", "code")},
            arrays={name.removeprefix(inside): a for name, a in found.items() if name.startswith(inside)},
            facts=facts.pop("aggregator"),
            skipped=[tuple(pair) for pair in facts.pop("skipped")],
            notes=[tuple(pair) for pair in facts.pop("notes")],
            **facts,
        )

    def finish(
        self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], aggregator: Any, provenance: Any
    ) -> None:
        """Write what belongs to the relevance beside it, and give the folder its name."""
        if self.zarr:
            group = import_zarr().open_group(str(self.part), mode="a")
            found = group[RELEVANCE]
            if found.shape[0] != len(arrays["score"]):
                found.resize((len(arrays["score"]), *found.shape[1:]))
            for name, values in arrays.items():
                chunks = tuple(max(1, min(n, 1 << 16)) for n in values.shape)
                array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, overwrite=True)
                array[...] = values
        else:
            for name, values in arrays.items():
                replace_file(self.part / f"{name}.npy", lambda file, values=values: write_npy(file, values))
        if aggregator is not None:
            told, kept = aggregator
            replace_file(self.part / AGGREGATOR, lambda file: np.savez(file, facts=np.array(json.dumps(told)), **kept))
        provenance.to_json(self.part / PROVENANCE)
        whole = {"function": FUNCTION, "digest": self.digest, "aggregated": aggregator is not None, **facts}
        text = json.dumps(whole, indent=1)
        replace_file(self.part / FACTS, lambda file: file.write(text.encode()))
        shutil.rmtree(self.part / SPOOL, ignore_errors=True)
        os.replace(self.part, self.out)
        self._tidy()

    def _tidy(self) -> None:
        """Remove what only an interrupted run needs; after the folder has its name, so that a kill costs nothing."""
        shutil.rmtree(self.out / BLOCKS, ignore_errors=True)
        (self.out / IDENTITY).unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, Any], dict[str, Any], tuple[dict, dict] | None]:
        """Return arrays (relevance mapped, or as zarr), facts and the packed aggregator of a finished folder."""
        self._tidy()
        facts = _read_json(self.out / FACTS)
        names = (RELEVANCE, "start", "record", "code", "score", "probability")
        try:
            arrays = self._load_zarr(names) if self.zarr else {name: self._load_npy(name) for name in names}
            sizes = {name: array.shape[0] for name, array in arrays.items()}
            if len(set(sizes.values())) > 1:
                raise ValueError(f"numbers of windows differ: {sizes}")
            packed = _load_npz(self.out / AGGREGATOR) if facts["aggregated"] else None
            Provenance.from_json(self.out / PROVENANCE)
        except Exception as error:
            raise ValueError(
                f"{self.out} is damaged ({type(error).__name__}: {error}): delete the folder and call again, which "
                "begins anew"
            ) from error
        return arrays, facts, packed

    def _load_zarr(self, names: tuple[str, ...]) -> dict[str, Any]:
        group = import_zarr().open_group(str(self.out), mode="r")
        return {name: group[name] if name == RELEVANCE else group[name][...] for name in names}

    def _load_npy(self, name: str) -> np.ndarray:
        mode: Any = "r" if name == RELEVANCE else None
        return np.load(self.out / f"{name}.npy", mmap_mode=mode, allow_pickle=False)

    def free(self) -> int:
        """Return the bytes that are free where the folder is."""
        here = self.part
        while not here.exists():
            here = here.parent
        return shutil.disk_usage(here).free


_OTHER = "belongs to another run (other records, labels, explainer or settings; files that were copied count as others)"


def _chunk(sizes: np.ndarray | None, row: int) -> int:
    """Return the windows of a zarr chunk, so that no two blocks share one."""
    if sizes is None or not len(sizes):
        return 1
    begins = np.cumsum(sizes)[:-1]
    common = int(np.gcd.reduce(begins)) if len(begins) else int(sizes[0])
    parts = -(-common * row // _LARGEST)
    return next(common // k for k in range(min(parts, common), common + 1) if common % k == 0)


def _load_npz(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the facts and the arrays of a file of them."""
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        found = dict(file)
    return json.loads(str(found.pop("facts"))), found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: pass another out ({error})") from error
    return found if isinstance(found, dict) else {}
