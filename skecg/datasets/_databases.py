"""One table of the databases that skecg knows by name: version, address, sampling rate, what the labels mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Labels as cardiologists write them, and the annotation symbols that mean them. The first paper's five beats, read
# from its counts (paper and slides of Vijayarangan et al. 2020): PAC is "A" alone, without "a", "J" and "S".
BEATS: Mapping[str, str] = {"N": "N", "PVC": "V", "PAC": "A", "LBBB": "L", "RBBB": "R"}


@dataclass(frozen=True)
class Database:
    """What is known of a database before a byte of it is read.

    Attributes
    ----------
    name : str
        Name in skecg: of the fetcher, of the folder in the data home and of the page in ``descr``.
    slug, version : str
        PhysioNet's name and the version that is fetched.
    title : str
        What its authors call it.
    fs : float
        Sampling rate of every record, Hz.
    records : tuple of str
        All record names.
    extensions : tuple of str
        Files of one record.
    annotator : str
        Extension of the reference annotations.
    beats : mapping
        Labels, and the symbols that mean them.
    patients : mapping
        Records that share a patient, to the patient's name; every other record is a patient of its own.
    """

    name: str
    slug: str
    version: str
    title: str
    fs: float
    records: tuple[str, ...]
    extensions: tuple[str, ...] = ("hea", "dat", "atr")
    annotator: str = "atr"
    beats: Mapping[str, str] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Address of the page where a person can get the files."""
        return f"https://physionet.org/content/{self.slug}/{self.version}/"

    def files(self, record: str) -> list[str]:
        """Return the files of a record, as paths inside the database."""
        return [f"{record}.{extension}" for extension in self.extensions]

    def group(self, record: str) -> str:
        """Return the patient of a record."""
        return self.patients.get(record, record)


MITDB = Database(
    name="mitdb",
    slug="mitdb",
    version="1.0.0",
    title="MIT-BIH Arrhythmia Database",
    fs=360.0,
    records=tuple(
        "100 101 102 103 104 105 106 107 108 109 111 112 113 114 115 116 117 118 119 121 122 123 124 "
        "200 201 202 203 205 207 208 209 210 212 213 214 215 217 219 220 221 222 223 228 230 231 232 233 234".split()
    ),
    beats=BEATS,
    patients={"202": "201"},  # 201 and 202 are one man
)
