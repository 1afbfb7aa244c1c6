"""A recording, whatever it was given as, read piece by piece."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import read_record
from ..datasets._records import find_leads
from ..utils._validation import check_fs

_SIGNAL = (".hea", ".dat", ".mat")


class Source:
    """A recording, whatever it was given as: name, fs, leads, length, and pieces of it in mV."""

    def __init__(self, record: Any, fs: float | None, leads: Any, n_leads: int) -> None:
        if leads is None and n_leads == 1:
            leads = 0
        if isinstance(record, str | os.PathLike):
            self.path = Path(record).expanduser()
            header = read_record(self.path, leads=leads, signal=False)
            if fs is not None and not np.isclose(fs, header.fs):
                raise ValueError(f"fs={fs!r}, but the header of {self.path} says {header.fs:g} Hz")
            self.leads, self.fs, self.name = leads, header.fs, header.record
            self.lead_names, self.length = list(header.lead_names), header.n_timesteps
            whole = read_record(self.path, signal=False)
            self.positions = find_leads(whole.lead_names, leads, self.name)
            if self.length is None:
                raise ValueError(f"the header of {self.path} gives no length: read it as a whole and pass the Bunch")
            count = len(self.lead_names)
        else:
            self.path, names = None, None
            self.name = ""
            if isinstance(record, Mapping):
                fs = record.get("fs") if fs is None else fs
                names, self.name = record.get("lead_names"), str(record.get("record", ""))
                record = record.get("data")
            if not isinstance(record, np.ndarray) or record.ndim not in (1, 2) or record.dtype.kind not in "fiu":
                got = f"an array of {record.dtype}, {record.shape}" if isinstance(record, np.ndarray) else type(record)
                raise ValueError(
                    f"record must be the path of a WFDB record, numbers of shape (n_leads, n_timesteps), or what "
                    f"read_record returns; got {got}"
                )
            self.fs = check_fs(fs, "explain_record of an array")
            self.data = record if record.ndim == 2 else record[None]
            if self.data.shape[0] > self.data.shape[1]:
                raise ValueError(
                    f"record has shape {self.data.shape}, which looks like (n_timesteps, n_leads): pass record.T"
                )
            names = [str(i) for i in range(len(self.data))] if names is None else list(names)
            one = isinstance(leads, int | np.integer | str)
            chosen = range(len(self.data)) if leads is None else [leads] if one else leads
            try:
                self.rows = [names.index(i) if isinstance(i, str) else range(len(names))[i] for i in chosen]
            except (ValueError, IndexError) as error:
                raise ValueError(f"leads {leads!r} are not among the record's {names}") from error
            self.positions = list(self.rows)
            self.lead_names, self.length, count = [names[i] for i in self.rows], self.data.shape[1], len(self.rows)
        if count != n_leads:
            raise ValueError(
                f"the network takes {n_leads} leads, and {count} were chosen ({', '.join(self.lead_names)}): pass leads"
            )

    def read(self, a: int, b: int) -> np.ndarray:
        """Return the samples a to b, (n_leads, b - a) float32, mV; an array of its own."""
        if self.path is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the header's were told when it was read
                return read_record(self.path, leads=self.leads, sampfrom=a, sampto=b).data
        return np.array(self.data[self.rows, a:b], dtype=np.float32)

    def told(self) -> dict[str, Any]:
        """Return what provenance says of it: the same for a copy of its files."""
        facts: dict[str, Any] = {"record": self.name, "fs": self.fs, "leads": self.lead_names, "n": self.length}
        if self.path is None:
            return {**facts, "sha256": self.identity()[-1]}
        digest = hashlib.sha256()
        for file in self._files():
            digest.update(file.name.encode())
            with open(file, "rb") as opened:
                while piece := opened.read(1 << 24):
                    digest.update(piece)
        return {**facts, "sha256": digest.hexdigest()}

    def _files(self) -> list[Path]:
        found = sorted(self.path.parent.glob(f"{self.path.name}.*"))
        return [p for p in found if p.suffix in _SIGNAL]

    def identity(self) -> list:
        """Return what tells this recording from others: the files' sizes and times, or a digest of the array."""
        if self.path is not None:
            facts: Any = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self._files()]
        else:
            digest = hashlib.sha256(repr((self.data.dtype.str, self.rows)).encode())
            for a in range(0, self.length, 1 << 20):
                digest.update(np.ascontiguousarray(self.data[self.rows, a : a + (1 << 20)]))
            facts = digest.hexdigest()
        return [self.name, self.fs, self.lead_names, self.length, facts]
