"""Records of a generator, taken one by one as they are needed, and put down for the workers block by block."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets._records import open_record
from ..relevance._rows import check_ids, check_labels
from ._check import Needs, Notes
from ._records import BadRecordError, Block, MemoryPart, SpoolPart, pick, write_npy
from ._sources import name_of, refuse


class Stream:
    """An iterable of records whose number nobody knows before it ends.

    Parameters
    ----------
    records : iterable
        Of paths, arrays, or mappings.
    needs : Needs
        What every record must have.
    notes : Notes
        Labels, patients and names that were given beside it.
    strict : bool
        Whether a bad record is an error.
    """

    known = False

    def __init__(self, records: Iterable, needs: Needs, notes: Notes, strict: bool) -> None:
        self.records, self.needs, self.notes, self.strict = iter(records), needs, notes, strict
        self.names: list = []
        self.counts: list[int] = []
        self.skipped: list[tuple[Any, str]] = []
        self.identity: Any = {"kind": "iterable"}
        self._seen: set = set()
        self._given: tuple[bool, bool] | None = None
        self._number = 0
        self._first: list = []
        self._contents = hashlib.sha256()
        self._taken = self._checked()

    @property
    def n_windows(self) -> np.ndarray:
        """Windows of each record that was taken so far."""
        return np.array(self.counts, dtype=np.int64)

    def begin(self) -> None:
        """Take the first record that fits: it tells the sampling rate and the leads."""
        self._first = [record for record in [next(self._taken, None)] if record is not None]
        self.identity["first"] = _digest(self._first)

    def blocks(self, batch: int, notes: Notes) -> Iterator[Block]:
        """Yield blocks of whole records with at least so many windows, the last one perhaps fewer."""
        held: list[tuple] = []
        size = number = first = 0
        for record in self._all():
            held.append(record)
            size += record[1]
            if size >= batch:
                yield self._block(number, first, held)
                number, first, size, held = number + 1, first + size, 0, []
        last = [self._block(number, first, held)] if held else []
        self.identity["sha256"] = self._contents.hexdigest()
        yield from last

    def _all(self) -> Iterator[tuple]:
        yield from self._first
        self._first = []
        yield from self._taken

    def contents(self, batch: int, notes: Notes) -> str:
        """Go through all records and return their digest."""
        for _ in self.blocks(batch, notes):
            pass
        return self._contents.hexdigest()

    def _checked(self) -> Iterator[tuple]:
        """Yield (name, number of windows, array or path, label, patient) of the records that fit."""
        for record in self.records:
            i, self._number = self._number, self._number + 1
            name: Any = i
            try:
                data, fs, leads, name, label, patient = self._read(record, i)
                if isinstance(data, str):
                    header, chosen, length, _ = open_record(data, self.needs.leads)
                    found = [header.lead_names[k] for k in chosen]
                    count = self.needs.count(header.fs, found, len(chosen), int(length))
                    data = (data, header)
                else:
                    data, leads = self._leads(data, leads)
                    count = self.needs.count(fs, leads, *data.shape)
            except _ShortError:
                raise
            except (ValueError, OSError) as error:
                refuse(name, error, self.strict)
                self.skipped.append((name, str(error)))
                continue
            if name in self._seen:
                raise ValueError(f"records has yielded the record {name!r} twice: give each a name of its own")
            self._seen.add(name)
            yield name, count, data, label, patient
        for what, given in (("y", self.notes.labels), ("groups", self.notes.groups), ("names", self.notes.names)):
            if given is not None and len(given) != self._number:
                raise ValueError(
                    f"{what} must be one each record: records has yielded {self._number}; got {len(given)}"
                )

    def _read(self, record: Any, i: int) -> tuple:
        """Return data or path, fs, names of its leads, name, label and patient of what was yielded."""
        fs = names = label = patient = None
        name: Any = i
        if isinstance(record, Mapping):
            missing = {"data"} - set(record)
            if missing:
                raise BadRecordError(f"it is a mapping without 'data'; it has {', '.join(map(str, record))}")
            fs, names = record.get("fs"), record.get("lead_names")
            label, patient, name = record.get("target"), record.get("groups"), record.get("record", i)
            record = record["data"]
        if isinstance(record, str | os.PathLike):
            name = name_of(record) if name == i else name
            record = os.fspath(record).removesuffix(".hea")
        elif not isinstance(record, np.ndarray) or record.ndim not in (1, 2) or record.dtype.kind not in "fiu":
            got = f"{record.dtype} of shape {record.shape}" if isinstance(record, np.ndarray) else type(record).__name__
            raise BadRecordError(
                "it must be a path, numbers of shape (n_leads, n_timesteps), or a mapping with them as 'data'; got "
                f"{got}"
            )
        for what in ("labels", "groups", "names"):
            given = getattr(self.notes, what)
            if given is None:
                continue
            if i >= len(given):
                what = "y" if what == "labels" else what
                raise _ShortError(f"{what} must be one each record: records yields more than {what} has, {len(given)}")
            if what == "labels":
                label = given[i]
            elif what == "groups":
                patient = given[i]
            else:
                name = given[i]
        (name,) = check_ids("record", [name], 1)
        if self.notes.by_target:
            label = None
        if self._given is None:
            self._given = label is not None, patient is not None
        for there, value, what in zip(
            self._given, (label, patient), ("label (target)", "patient (groups)"), strict=True
        ):
            if there != (value is not None):
                raise BadRecordError(f"it has {'no' if there else 'a'} {what}, unlike the first record")
        if label is not None:
            label = np.asarray(label).reshape(-1) if np.ndim(label) else label
            check_labels(np.asarray(label)[None], 1)
        if patient is not None:
            (patient,) = check_ids("groups", [patient], 1)
        return record, fs, names, name, label, patient

    def _leads(self, data: np.ndarray, names: Any) -> tuple[np.ndarray, list[str] | None]:
        """Return the chosen leads of an array as float32, and their names."""
        cube = data[None] if data.ndim == 1 else data
        names = None if names is None else [str(name) for name in names]
        if names is not None and len(names) != len(cube):
            raise BadRecordError(f"it has {len(cube)} leads and {len(names)} lead_names")
        wanted = self.needs.leads
        if names is not None and self.needs.chosen:
            from ..datasets._records import find_leads

            rows = tuple(find_leads(names, wanted, "of the mapping"))
        else:
            rows = self.needs.rows(len(cube))
        return pick(cube, rows), names if names is None or rows is None else [names[k] for k in rows]

    def _block(self, number: int, first: int, held: list[tuple]) -> Block:
        names, counts, data, labels, groups = zip(*held, strict=True)
        content = _digest(held)
        self._contents.update(content.encode())
        self.names.extend(names)
        self.counts.extend(counts)
        plain = tuple(record[0] if isinstance(record, tuple) else record for record in data)
        return Block(
            number=number,
            first=first,
            names=names,
            n_windows=counts,
            part=MemoryPart(plain, None, self.needs.leads),
            labels=None if labels[0] is None else np.asarray(labels),
            columns=self.notes.columns,
            groups=None if groups[0] is None else groups,
            content=content,
        )


def _digest(held: list[tuple]) -> str:
    """Return what tells these records from others."""
    digest = hashlib.sha256()
    for name, count, data, label, patient in held:
        digest.update(repr((name, count, None if label is None else np.asarray(label).tolist(), patient)).encode())
        if isinstance(data, tuple):
            header = data[1]
            files = [header.path, *(header.path.parent / file for file in sorted(header.files()))]
            stats = [(file.name, s.st_size, s.st_mtime_ns) for file, s in ((f, os.stat(f)) for f in files)]
            digest.update(repr((header.fs, header.lead_names, stats)).encode())
        else:
            digest.update(repr(data.shape).encode() + np.ascontiguousarray(data).data)
    return digest.hexdigest()


def put_down(block: Block, folder: Path) -> Block:
    """Return a block whose arrays are in a file, for workers that do not share this memory."""
    held = block.part.arrays
    arrays = [record.reshape(-1) for record in held if not isinstance(record, str)]
    path = folder / f"block{block.number}.npy"
    if arrays:
        with open(path, "wb") as file:
            write_npy(file, np.concatenate(arrays))
    part = SpoolPart(
        path=str(path),
        shapes=tuple(None if isinstance(record, str) else record.shape for record in held),
        wfdb=tuple(record if isinstance(record, str) else None for record in held),
        leads=block.part.leads,
    )
    return replace(block, part=part)


class _ShortError(ValueError):
    """y, groups or names end before the records do: no fault of one record."""
