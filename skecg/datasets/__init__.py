"""Databases of ECG by name, records of your own, and windows cut from them."""

from ._arrhythmia import fetch_mitdb
from ._home import MissingFileError, get_data_home
from ._records import read_record
from ._segment import segment_beats
from ._synthetic import make_ecg

__all__ = ["MissingFileError", "fetch_mitdb", "get_data_home", "make_ecg", "read_record", "segment_beats"]
