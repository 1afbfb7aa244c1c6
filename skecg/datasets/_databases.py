"""One table of the databases that skecg knows by name: versions, address, sampling rate, what the labels mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Labels as cardiologists write them, and the annotation symbols that mean them. The first paper's five beats, read
# from its counts (paper and slides of Vijayarangan et al. 2020): PAC is "A" alone, without "a", "J" and "S".
BEATS: Mapping[str, str] = {"N": "N", "PVC": "V", "PAC": "A", "LBBB": "L", "RBBB": "R"}

# The five groups of ANSI/AAMI EC57, as WFDB's programs and de Chazal et al. (2004) form them: beats of the bundle
# branch blocks and escape beats of atrium and junction count as N, whatever is paced or not classified as Q.
AAMI: Mapping[str, str] = {"N": "NLRBejn", "SVEB": "AaJS", "VEB": "VEr", "F": "F", "Q": "/fQ?"}

# Labels of rhythms, and the texts of the marks ("+") at which they begin. Where a note is the same as the label of a
# beat, or says little, the label is a word; where databases have two notes for one rhythm, there is one label.
RHYTHMS: Mapping[str, tuple[str, ...]] = {
    "NSR": ("(N", "(NSR"),
    "AFIB": ("(AFIB",),
    "AFL": ("(AFL",),
    "SVTA": ("(SVTA",),
    "SBR": ("(SBR",),
    "VT": ("(VT",),
    "VFL": ("(VFL",),
    "VF": ("(VF", "(VFIB"),
    "ASYS": ("(ASYS",),
    "BIGEMINY": ("(B",),
    "TRIGEMINY": ("(T",),
    "AB": ("(AB",),
    "HGEA": ("(HGEA",),
    "IVR": ("(IVR",),
    "VER": ("(VER",),
    "NODAL": ("(NOD",),
    "1dAVb": ("(BI",),
    "2dAVb": ("(BII",),
    "PREX": ("(PREX",),
    "PACED": ("(P", "(PM"),
    "NOISE": ("(NOISE",),
}


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
        All record names; empty where only the database's own lists tell them.
    extensions : tuple of str
        Files of one record.
    annotator : str
        Extension of the reference annotations.
    beats : mapping
        Labels of beats, and the symbols that mean them.
    patients : mapping
        Records that share a patient, to the patient's name; every other record is a patient of its own.
    versions : tuple of str
        All versions that are read where they lie in the data home; ``version`` is the first.
    prefix : str
        Folder of the database inside PhysioNet's project, with ``/`` at its end; empty where it is the project itself.
    rhythms : mapping
        Labels of rhythms, and the notes that mean them.
    paced : tuple of str
        Records of patients with a pacemaker, which the AAMI practice leaves out.
    notes : mapping
        Texts of annotations that are no rhythms, and what they mean.
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
    versions: tuple[str, ...] = ()
    prefix: str = ""
    rhythms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paced: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the pinned version first in the versions."""
        object.__setattr__(self, "versions", tuple(dict.fromkeys((self.version, *self.versions))))

    @property
    def page(self) -> str:
        """Address of the page where a person can get the files."""
        return f"https://physionet.org/content/{self.slug}/{self.version}/"

    def files(self, record: str, *, signal: bool = True) -> list[str]:
        """Return the files of a record, as paths inside the database; without the signal, header and annotations."""
        wanted = self.extensions if signal else ("hea", self.annotator)
        return [f"{record}.{extension}" for extension in self.extensions if extension in wanted]

    def group(self, record: str) -> str:
        """Return the patient of a record."""
        return self.patients.get(record, record)


def _named(labels: str, table: Mapping) -> dict:
    """Return the part of a table of labels that a database has."""
    return {label: table[label] for label in labels.split()}


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
    rhythms=_named("NSR AFIB AFL SVTA SBR VT VFL BIGEMINY TRIGEMINY AB IVR NODAL 2dAVb PREX PACED", RHYTHMS),
    patients={"202": "201"},  # 201 and 202 are one man
    paced=("102", "104", "107", "217"),
    notes={"MISSB": "missed beat", "PSE": "pause", "TS": "tape slippage"},
)

LTAFDB = Database(
    name="ltafdb",
    slug="ltafdb",
    version="1.0.0",
    title="Long Term AF Database",
    fs=128.0,
    records=tuple(
        "00 01 03 05 06 07 08 10 100 101 102 103 104 105 11 110 111 112 113 114 115 116 117 118 119 12 120 121 122 13 "
        "15 16 17 18 19 20 200 201 202 203 204 205 206 207 208 21 22 23 24 25 26 28 30 32 33 34 35 37 38 39 42 43 44 "
        "45 47 48 49 51 53 54 55 56 58 60 62 64 65 68 69 70 71 72 74 75".split()
    ),
    beats=_named("N PVC PAC", BEATS),
    rhythms=_named("NSR AFIB SVTA SBR VT BIGEMINY TRIGEMINY AB IVR", RHYTHMS),
    notes={
        "MISSB": "missed beat",
        "PSE": "pause",
        "M": "not documented",
        "MB": "not documented",
        "\x01 Aux": "none: one a record, with a control character in front",
    },
)

LTDB = Database(
    name="ltdb",
    slug="ltdb",
    version="1.0.0",
    title="MIT-BIH Long-Term ECG Database",
    fs=128.0,
    records=tuple("14046 14134 14149 14157 14172 14184 15814".split()),
    beats=_named("N PVC", BEATS) | {"SVEB": AAMI["SVEB"]},
)

VFDB = Database(
    name="vfdb",
    slug="vfdb",
    version="1.0.0",
    title="MIT-BIH Malignant Ventricular Ectopy Database",
    fs=250.0,
    records=tuple(
        "418 419 420 421 422 423 424 425 426 427 428 429 430 602 605 607 609 610 611 612 614 615".split()
    ),
    rhythms=_named("NSR AFIB SVTA SBR VT VFL VF ASYS BIGEMINY HGEA VER NODAL 1dAVb PACED NOISE", RHYTHMS),
)

SVDB = Database(
    name="svdb",
    slug="svdb",
    version="1.0.0",
    title="MIT-BIH Supraventricular Arrhythmia Database",
    fs=128.0,
    records=(),  # no list of them was at hand that could be checked: the database's own is asked
    beats=_named("N PVC", BEATS) | {"SVEB": AAMI["SVEB"]},
)

PTBXL = Database(
    name="ptbxl",
    slug="ptb-xl",
    version="1.0.3",
    title="PTB-XL",
    fs=500.0,  # 100 Hz too, in files of their own
    records=(),  # its table names them
    extensions=("hea", "dat"),
    annotator="",
    versions=("1.0.2", "1.0.1"),
)

CPSC2018 = Database(
    name="cpsc2018",
    slug="challenge-2020",
    version="1.0.2",
    title="China Physiological Signal Challenge 2018, as in the PhysioNet/CinC Challenge 2020",
    fs=500.0,
    records=(),  # in seven folders: the list of sums tells in which
    extensions=("hea", "mat"),
    annotator="",
    versions=("1.0.1", "1.0.0"),
    prefix="training/cpsc_2018/",
)

LUDB = Database(
    name="ludb",
    slug="ludb",
    version="1.0.1",
    title="Lobachevsky University Electrocardiography Database",
    fs=500.0,
    records=tuple(f"data/{number}" for number in range(1, 201)),
    extensions=("hea", "dat", *"i ii iii avr avl avf v1 v2 v3 v4 v5 v6".split()),  # the marks of each lead
    annotator="ii",
    versions=("1.0.0",),
)
