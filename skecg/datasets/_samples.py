"""The samples of a record, piece by piece: decoded, scaled to mV, and compared with what the header says."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from ._headers import MISSING, MV_PER_UNIT, Header, Signal

_WIDE = {8, 24, 32, 524}  # formats whose samples need more than 16 bits
_SUM = 1 << 16  # checksums are known modulo this
_QUIET, _NEAR = 1 << 12, 1 << 14  # see _find_lone


class Samples:
    """The samples of some leads, read in order from any frame on; what was read is compared with the header at the end.

    A context manager: wfdb may need a header in plain words in a temporary folder, which lives as long.

    Parameters
    ----------
    header : Header
        The record.
    chosen : list of int
        Leads that are wanted, by position, in this order.
    length : int
        Frames of the whole record.
    notes : list of str
        Gets what is odd about the leads.

    Attributes
    ----------
    first, last : int
        What was read so far, in frames.
    """

    def __init__(self, header: Header, chosen: list[int], length: int, notes: list[str]) -> None:
        signals = header.signals
        if not signals:
            raise ValueError(f"{header.path}: the record has no signal; pass signal=False to read its annotations")
        for i in chosen:
            if signals[i].units not in MV_PER_UNIT:
                raise ValueError(
                    f"record {header.record}: lead {i} ({signals[i].name}) is in {signals[i].units!r}, which is no "
                    f"voltage; expected mV, uV, nV or V: choose the ECG leads by leads="
                )
            if signals[i].per_frame > 1:
                notes.append(
                    f"lead {signals[i].name} has {signals[i].per_frame} samples a frame: they are averaged to one"
                )
        self.header, self.chosen, self.length = header, chosen, length
        # All leads of a file are decoded together anyway, so all are compared: damage shows in whatever lead it lies.
        self.leads = sorted({i for file in header.files().values() if set(file) & set(chosen) for i in file})
        self.first = self.last = 0
        self.started, self.agreed = False, True
        self.sums, self.initial = dict.fromkeys(self.leads, 0), {}
        self.lone = dict.fromkeys(self.leads, 0)
        self.tails: dict[int, np.ndarray] = {}
        self.reader = _Reader(header, self.leads, length)

    def __enter__(self) -> Samples:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reader.close()

    def frames(self, n_samples: int) -> int:
        """Return how many frames hold so many samples of all the leads that are decoded, at least one."""
        return max(1, n_samples // sum(self.header.signals[i].per_frame for i in self.leads))

    def read(self, a: int, b: int, out: np.ndarray) -> None:
        """Write the frames a to b as mV into ``out`` (n_chosen, b - a); a is where the last call ended, or anywhere."""
        signals = self.header.signals
        if a != self.last:
            self.first, self.sums, self.initial = a, dict.fromkeys(self.leads, 0), {}
            self.lone, self.tails = dict.fromkeys(self.leads, 0), {}
        self.last = b
        ahead = max(signals[i].skew for i in self.leads)
        for i, digital in zip(self.leads, self.reader.read(a, b, min(b + ahead, self.length)), strict=True):
            per_frame, skew = signals[i].per_frame, signals[i].skew
            own = digital[: (b - a) * per_frame]
            self.sums[i] += int(own.sum(dtype=np.int64))
            self.initial.setdefault(i, int(own[0]))
            if signals[i].fmt in _WIDE:
                own = np.concatenate([self.tails.get(i, own[:0]), own.astype(np.int64)])
                self.lone[i] += _find_lone(own, at_end=b == self.length)
                self.tails[i] = own[-2:]
            for row in (row for row, lead in enumerate(self.chosen) if lead == i):
                _to_mv(digital[skew * per_frame : (skew + b - a) * per_frame], signals[i], out[row])

    def compare_start(self, on_error: str, notes: list[str]) -> None:
        """Compare first samples with the header's, before all is read; :meth:`compare` does so where this did not."""
        self._report(self._wrong_starts(), on_error, notes)

    def compare(self, on_error: str, notes: list[str]) -> bool:
        """Compare sums and first samples with the header's; return whether all were there and agreed.

        Sums are compared where the whole record was read, first samples where its start was. Disagreement is a
        ValueError, or a note with ``on_error="warn"``.
        """
        silent, whole = [], (self.first, self.last) == (0, self.length)
        problems = self._wrong_starts()
        for i in self.leads:
            signal = self.header.signals[i]
            # Some writers give the sum of 16 bits with a sign, some without: they are the same number modulo 65536.
            if whole and signal.checksum is None:
                silent.append(signal.name)
            elif whole and (self.sums[i] - signal.checksum) % _SUM:
                problems.append(
                    f"the samples of lead {signal.name} add up to the checksum {_signed(self.sums[i])}, its header "
                    f"says {_signed(signal.checksum)}"
                )
            if self.lone[i]:
                notes.append(
                    f"{self.lone[i]} samples of lead {signal.name} stand alone by a multiple of {_SUM} units, which no "
                    f"checksum of 16 bits shows: they are spikes of one sample, or damage"
                )
        if silent:
            notes.append(f"its header has no checksum for {', '.join(silent)}: damage to the samples would not show")
        self._report(problems, on_error, notes)
        return whole and self.agreed and not silent and not any(self.lone.values())

    def _wrong_starts(self) -> list[str]:
        """Compare the first samples of the record with the header's, once."""
        if self.first != 0 or self.started:
            return []
        self.started = True
        return [
            f"lead {signal.name} begins with {self.initial[i]}, its header says {signal.initial}"
            for i, signal in ((i, self.header.signals[i]) for i in self.leads)
            if signal.initial not in (None, self.initial[i])
        ]

    def _report(self, problems: list[str], on_error: str, notes: list[str]) -> None:
        if not problems:
            return
        self.agreed = False
        file = self.header.path.parent / self.header.signals[self.leads[0]].file
        text = f"{file}: the signal is damaged or its header is another one's: {'; '.join(problems)}"
        if on_error == "raise":
            raise ValueError(f"{text}; download the record again, or pass on_error='warn' to read it as it is")
        notes.append(text)


def _signed(value: int) -> int:
    return (value + (_SUM >> 1)) % _SUM - (_SUM >> 1)


def _find_lone(x: np.ndarray, at_end: bool) -> int:
    """Count samples that stand off both neighbours by one multiple of 65536, in a lead that is else quiet.

    That is what a flipped bit above the 16 of the checksum looks like. A lead that moves fast from sample to sample
    tells nothing. The last sample of a record has one neighbour; the first is compared with the header's.
    """
    steps = np.diff(x)
    if not len(steps) or np.median(np.abs(steps)) > _QUIET:
        return 0
    multiples = np.rint(steps / _SUM)
    jumps = (multiples != 0) & (np.abs(steps - multiples * _SUM) < _NEAR)
    back = jumps[:-1] & jumps[1:] & (multiples[:-1] == -multiples[1:])
    return int(back.sum()) + int(at_end and jumps[-1] and not (len(back) and back[-1]))


class _Reader:
    """Digital samples by wfdb; where wfdb reads the header otherwise than it is written, from a copy in plain words."""

    def __init__(self, header: Header, leads: list[int], length: int) -> None:
        self.header, self.leads, self.length = header, leads, length
        self.copy: tempfile.TemporaryDirectory | None = None
        # Format 8 stores differences, and wfdb adds them up from wherever it begins to read.
        self.differences = any(header.signals[i].fmt == 8 for i in leads)
        self.at, self.before = 0, [header.signals[i].initial or 0 for i in leads]
        self.bits = 32 if any(header.signals[i].fmt in _WIDE for i in leads) else 16

    def close(self) -> None:
        """Remove the copy of the header."""
        if self.copy is not None:
            self.copy.cleanup()

    def read(self, a: int, b: int, ahead: int) -> list[np.ndarray]:
        """Return the samples of the frames a to ahead, an array a lead; the next call is expected to begin at b."""
        if not self.differences:
            return self._decode(a, ahead)
        if a != self.at:
            self.at, self.before = 0, [self.header.signals[i].initial or 0 for i in self.leads]
            while self.at < a:  # what lies before has to be added up
                stop = min(a, self.at + (1 << 20))
                self.read(self.at, stop, stop)
        found = self._decode(a, ahead)
        for k, i in enumerate(self.leads):
            if self.header.signals[i].fmt == 8:
                found[k] = found[k] + self.before[k]
                self.before[k] = int(found[k][(b - a) * self.header.signals[i].per_frame - 1])
        self.at = b
        return found

    def _decode(self, a: int, b: int) -> list[np.ndarray]:
        """Return the samples as wfdb decodes them, from the record itself or from beside a copy of its header."""
        found = None
        if self.copy is None and not self.differences:
            try:
                found = self._read(self.header.path.with_suffix(""), self.leads, a, b)
            except OSError:
                raise
            except Exception:
                # wfdb raises seven kinds of exception on headers; whether the signal can be read shows on the copy.
                found = None
        if found is None:
            try:
                found = self._read(self._copied(), list(range(len(self.leads))), a, b)
            except OSError:
                raise
            except Exception as error:
                raise ValueError(f"{self.header.path}: wfdb cannot read the signal: {error}") from error
            if found is None:
                raise ValueError(f"{self.header.path}: wfdb does not read the signal as its header describes it")
        return found

    def _read(self, path: Path, channels: list[int], a: int, b: int) -> list[np.ndarray] | None:
        """Return the samples, or None where wfdb understood the header otherwise."""
        import wfdb

        signals = [self.header.signals[i] for i in self.leads]
        # Big-endian samples (format 61) make wfdb's list of leads fail, its table of leads not.
        table = any(signal.fmt == 61 for signal in signals) and all(signal.per_frame == 1 for signal in signals)
        record = wfdb.rdrecord(
            str(path), a, b, channels, physical=False, smooth_frames=table, ignore_skew=True, return_res=self.bits
        )
        same = (
            [int(fmt) for fmt in record.fmt] == [signal.fmt for signal in signals]
            and [n or 1 for n in record.samps_per_frame] == [signal.per_frame for signal in signals]
            and [n or 0 for n in record.byte_offset] == [signal.offset for signal in signals]
            and (path.parent != self.header.path.parent or record.file_name == [signal.file for signal in signals])
        )
        if not same:
            return None
        found = list(record.d_signal.T) if table else record.e_d_signal
        right = [len(x) == (b - a) * signal.per_frame for x, signal in zip(found, signals, strict=True)]
        return found if all(right) else None

    def _copied(self) -> Path:
        """Return a record with nothing in its header but what reading needs, beside links to the signal files."""
        if self.copy is not None:
            return Path(self.copy.name) / "record"
        self.copy = tempfile.TemporaryDirectory(prefix="skecg-")
        folder, names = Path(self.copy.name), {}
        lines = [f"record {len(self.leads)} 1 {self.length}"]
        for i in self.leads:
            s = self.header.signals[i]
            if s.file not in names:
                names[s.file] = f"signal{len(names)}.dat"
                source, target = self.header.path.parent / s.file, folder / names[s.file]
                try:
                    target.symlink_to(source.resolve())
                except (OSError, NotImplementedError):  # Windows wants a privilege for links
                    shutil.copyfile(source, target)
            lines.append(f"{names[s.file]} {s.fmt}x{s.per_frame}+{s.offset} 1(0)/mV 0 0 0 0 0 lead")
        (folder / "record.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
        return folder / "record"


def _to_mv(digital: np.ndarray, signal: Signal, out: np.ndarray) -> None:
    """Write samples as mV; what is missing in them, or lacking at their end, as NaN."""
    n = len(digital) // signal.per_frame
    missing = MISSING.get(signal.fmt)
    gaps = np.zeros(len(digital), dtype=bool) if missing is None else digital == missing
    factor = MV_PER_UNIT[signal.units]
    narrow = signal.fmt not in _WIDE and abs(signal.baseline) < 1 << 23 and signal.per_frame == 1
    if narrow and factor == 1 and float(np.float32(signal.gain)) == signal.gain:
        # Differences and gain are whole in float32, so one division rounds once, as float64 and a cast would.
        np.subtract(digital, np.float32(signal.baseline), out=out[:n], dtype=np.float32)
        np.divide(out[:n], np.float32(signal.gain), out=out[:n])
        if gaps.any():
            out[:n][gaps] = np.nan
    else:
        values = (digital.astype(np.float64) - signal.baseline) / signal.gain * factor
        values[gaps] = np.nan
        out[:n] = values.reshape(n, signal.per_frame).mean(axis=1)
    out[n:] = np.nan
