"""Small intact records made by code, and the ways in which their files are damaged."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

FORMATS = (16, 212, 80, 24)
N, FS = 500, 360
_SIGNS = string.digits * 3 + " .+-/():x#eE\n\t" + string.ascii_letters + '\0\x1b"*,\u00b5\u2028\xa0'
_HEAD = "## time resolution: 360"


@dataclass(frozen=True)
class Intact:
    """A record as it was written: its name, the bytes of its files and its samples (n_leads, n_timesteps)."""

    name: str
    fmt: int
    header: str
    signal: bytes
    annotations: bytes
    digital: np.ndarray

    def write(self, folder: Path) -> Path:
        """Write the three files, and return the path of the record."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        path.with_suffix(".hea").write_bytes(self.header.encode())
        path.with_suffix(".dat").write_bytes(self.signal)
        path.with_suffix(".atr").write_bytes(self.annotations)
        return path


def intact_records() -> list[Intact]:
    """Return a record of three leads in each of four formats, with headers in the manners of three writers."""
    return [_record(fmt, i) for i, fmt in enumerate(FORMATS)]


def _record(fmt: int, i: int) -> Intact:
    rng = np.random.default_rng(i)
    name, leads = f"r{fmt}", ("MLII", "V1", "V5")
    top, zero = {80: (50, 3), 212: (900, 1024), 16: (4000, 0), 24: (60_000, 0)}[fmt]
    time = np.arange(N) / FS
    beat = sum(a * np.exp(-(((time % 0.8 - at) / width) ** 2)) for a, at, width in ((1, 0.3, 0.02), (0.3, 0.6, 0.06)))
    digital = np.rint([top * a * beat + rng.normal(0, top / 100, N) for a in (1, -0.6, 0.8)]).astype(np.int64)
    lines = []
    for lead, x in zip(leads, digital, strict=True):
        total = int(x.sum() + 32768) % 65536 - 32768
        gain = {80: "25/mV", 212: "200", 16: "1000.0(0)/mV", 24: "15(-7)/uV"}[fmt]
        bits = {212: 12, 80: 8}.get(fmt, fmt)
        lines.append(f"{name}.dat {fmt} {gain} {bits} {zero} {x[0]} {total} 0 {lead}")
    start = {212: "", 16: " 11:30:00 12/05/2001"}.get(fmt, " 0:0:0")
    header = "\n".join([f"{name} 3 {FS} {N}{start}", *lines, "#Age: 61", "#Dx: 164889003", ""])
    return Intact(name, fmt, header, _encode(digital.T.ravel(), fmt), _annotate(), digital)


def _encode(samples: np.ndarray, fmt: int) -> bytes:
    if fmt == 16:
        return samples.astype("<i2").tobytes()
    if fmt == 80:
        return (samples + 128).astype(np.uint8).tobytes()
    if fmt == 24:
        return samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    a, b = (samples.reshape(-1, 2) & 0xFFF).T
    return np.stack([a & 0xFF, a >> 8 | b >> 8 << 4, b & 0xFF], axis=1).astype(np.uint8).tobytes()


def _annotate() -> bytes:
    """Return a file like those of the databases: the rate, a rhythm, beats, fields, and one long interval."""

    def word(code: int, value: int) -> bytes:
        return (code << 10 | value).to_bytes(2, "little")

    def text(note: str) -> bytes:
        return word(63, len(note)) + note.encode() + b"\0" * (len(note) % 2)

    marks = [word(22, 0) + text(_HEAD), word(28, 5) + text("(N\0"), word(1, 100), word(1, 80), word(5, 60)]
    marks += [word(61, 1) + word(62, 1) + word(60, 2), word(8, 90), word(28, 3) + text("(AFIB\0")]
    marks += [word(59, 0) + (0).to_bytes(2, "little") + (70).to_bytes(2, "little") + word(1, 1), word(14, 20)]
    marks += [word((1, 1, 1, 5, 8)[i % 5], 1 + i % 3) for i in range(35)]
    return b"".join([*marks, word(0, 0)])


def damage_header(content: str, random: Random) -> str:
    """Return a header with one to three characters edited; a quarter of them damaged in another way."""
    kind = random.randrange(16)
    lines = content.split("\n")
    if kind == 0:  # a download that broke off
        return content[: random.randrange(len(content))]
    if kind == 1:  # a line twice, or not at all
        i = random.randrange(len(lines))
        lines[i : i + 1] = [lines[i]] * (2 * random.randrange(2))
        return "\n".join(lines)
    if kind == 2:  # two words of a line changed about
        i = random.randrange(4)
        words = lines[i].split(" ")
        a, b = random.randrange(len(words)), random.randrange(len(words))
        words[a], words[b] = words[b], words[a]
        return "\n".join([*lines[:i], " ".join(words), *lines[i + 1 :]])
    if kind == 3:  # a number of another size, or no number
        i = random.randrange(4)
        words = lines[i].split(" ")
        odd = ("0", "-1", "1e9", "nan", "inf", "99999999", "99999999999", "9223372036854775808", "1e-320", "", "1e3")
        words[random.randrange(1, len(words))] = random.choice(odd)
        return "\n".join([*lines[:i], " ".join(words), *lines[i + 1 :]])
    for _ in range(random.randint(1, 3)):
        at, end = random.randrange(len(content) + 1), random.randrange(2)
        new = random.choice(_SIGNS) if end == 0 or random.randrange(2) else ""
        content = content[:at] + new + content[at + end :]
    return content


def damage_annotations(content: bytes, random: Random) -> bytes:
    """Return an annotation file with some bytes changed, cut off, taken out, put in, or another file altogether."""
    kind, n = random.randrange(20), len(content)
    if kind == 0:
        return content[: random.randrange(n)]
    if kind == 1:
        at = random.randrange(n)
        return content[:at] + content[at + random.randint(1, 8) :]
    if kind == 2:
        at = random.randrange(n)
        return content[:at] + random.randbytes(random.randint(1, 8)) + content[at:]
    if kind == 3:
        return random.randbytes(random.randrange(400))
    if kind == 4:
        return b"<html><body>Please log in. " + b"x" * random.randrange(200) + b"</body></html>"
    damaged = bytearray(content)
    for _ in range(random.randint(1, 3)):
        # Some edits hit the text at sample 0, on which wfdb loops for ever.
        at = random.randrange(4, 4 + len(_HEAD)) if kind == 5 else random.randrange(n)
        damaged[at] = damaged[at] ^ 1 << random.randrange(8) if random.randrange(2) else random.randrange(256)
    return bytes(damaged)


def damage_signal(content: bytes, random: Random) -> bytes:
    """Return a signal file with a bit flipped, a byte changed, a run of bytes overwritten, lost or added, or a cut."""
    kind, n = random.randrange(8), len(content)
    at, size = random.randrange(n), random.randint(1, 64)
    if kind == 0:
        return content[: random.randrange(n)]
    if kind == 1:
        return content[:at] + content[at + size :]
    if kind == 2:
        return content[:at] + random.randbytes(size) + content[at:]
    if kind == 3:
        return content[:at] + random.choice((b"\0", b"\xff"))[:1] * len(content[at : at + size]) + content[at + size :]
    damaged = bytearray(content)
    damaged[at] = damaged[at] ^ 1 << random.randrange(8) if kind < 7 else random.randrange(256)
    return bytes(damaged)
