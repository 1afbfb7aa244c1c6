"""Databases of ECG by name, records of your own, and windows cut from them."""

from ..utils._stored import StoredWindows
from ._arrhythmia import fetch_mitdb, fetch_svdb, fetch_vfdb
from ._challenge import load_challenge
from ._concatenate import concatenate_windows
from ._cpsc2018 import fetch_cpsc2018
from ._home import MissingFileError, get_data_home
from ._iter_windows import iter_windows
from ._long_term import fetch_ltafdb, fetch_ltdb
from ._ludb import fetch_ludb
from ._paper_counts import PaperCount, paper_counts
from ._physionet import fetch_physionet
from ._ptbxl import fetch_ptbxl
from ._records import read_record
from ._segment import segment_beats
from ._segment_rhythm import segment_rhythm
from ._segment_windows import segment_windows, truth_masks
from ._splits import check_split
from ._synthetic import make_ecg

__all__ = [
    "MissingFileError",
    "PaperCount",
    "StoredWindows",
    "check_split",
    "concatenate_windows",
    "fetch_cpsc2018",
    "fetch_ltafdb",
    "fetch_ltdb",
    "fetch_ludb",
    "fetch_mitdb",
    "fetch_physionet",
    "fetch_ptbxl",
    "fetch_svdb",
    "fetch_vfdb",
    "get_data_home",
    "iter_windows",
    "load_challenge",
    "make_ecg",
    "paper_counts",
    "read_record",
    "segment_beats",
    "segment_rhythm",
    "segment_windows",
    "truth_masks",
]
