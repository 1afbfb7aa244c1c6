"""Parameter texts that the fetchers of annotated recordings share."""

from __future__ import annotations

from collections.abc import Callable

from ..utils._docs import fill_doc

_TEXTS = {
    "where": """
data_home : str or path-like, default=None
    Folder that holds, or will hold, the databases; None takes the environment variable ``SKECG_DATA``, and where
    that is not set ``~/skecg_data``. The records may lie in the folder itself, or in a folder in it that has the
    database's name, or its name and version. A folder that holds all that is wanted is never written to.
download_if_missing : bool, default=True
    Whether missing files are downloaded. False, or the environment variable ``SKECG_OFFLINE=1``, opens no connection.
window : float, default=2.0
    Length of a window, s. The sampling rate stays the recordings' own: for another, pass the windows through
    :class:`~skecg.preprocessing.Resampler`.
""",
    "rhythm": """
rhythm : "episodes" or "marks", default="episodes"
    Where windows of a rhythm lie. ``"episodes"``: one after the other inside each episode, from the mark that begins
    it up to the next mark of another rhythm or the end of the recording. ``"marks"``: one window centred on each mark,
    as the first paper's counts have it; half of it is the rhythm before, so its label is right for the other half
    alone. Windows of beats do not care.
""",
    "cut": """
shift : float, default=0.0
    Each window is moved by a random offset, uniform between ``-shift`` and ``shift`` s, so that the beat does not
    always lie in the middle; less far where it would leave the recording, or its episode.
edge : "signal" or "annotations", default="signal"
    Which windows are whole: those within the recording, or those that lie, end included, between its first and its
    last annotation of any kind as well.
pure : bool, default=False
    Whether other annotations exclude a window. Beats: from ``s - n // 2`` to ``s + n // 2``, both ends included, every
    annotation of any kind must have the symbol of the beat at ``s``, the rule by which the first paper's long-term
    counts come out (a pure PVC is then a run of ventricular beats, or one alone in its window). Marks: no other rhythm
    mark may lie there. Windows inside episodes are pure already.
max_per_class : int, default=None
    At most so many windows of each class, drawn with ``random_state`` and spread over the patients as evenly as their
    numbers allow; None takes all.
""",
    "read": """
signal : bool, default=True
    Whether the signals are read. With False the ``.dat`` files need not be there and are not downloaded, ``data`` is
    None, and labels, patients and positions are as they would be with them.
random_state : int, Generator, RandomState or None, default=None
    Source of the draws and offsets; with an int they are the same at every call. Global generators are not touched.
return_X_y : bool, default=False
    Whether ``(data, target)`` is returned instead of a Bunch.
on_error : "raise" or "warn", default="raise"
    What happens with a record that cannot be had or read, or has not the wanted lead: an error, or a warning with
    its name and the reason, and the other records are returned.
verbose : int, default=1
    Above 0, show a progress bar while downloading, and while reading takes more than two seconds.
""",
    "windows": """
data : ndarray of shape (n_samples, 1, n_timesteps), float32, mV, or None
    The windows, record by record, in the order of time.
target : ndarray of str, shape (n_samples,)
    Label of each window.
groups : ndarray of str, shape (n_samples,)
    Patient.
record : ndarray of str, shape (n_samples,)
    Name of the record.
sample : ndarray of int64, shape (n_samples,)
    Position in its record of the annotation that gave the window its label: the beat, or the rhythm mark, which
    stands at the beginning of the episode.
start : ndarray of int64, shape (n_samples,)
    Position of the window's first sample in the record: a beat lies at ``sample - start`` in its window.
shift : ndarray of int64, shape (n_samples,)
    How far the window was moved to the right, in samples.
lead : ndarray of str, shape (n_samples,)
    Name of the window's lead.
fs : float
    Sampling rate, Hz.
lead_names : list of str
    One name; several joined by ``/`` where the records' leads differ.
skipped : dict of str
    Records left out with ``on_error="warn"``, and the reason.
n_excluded : dict of int
    What was left out of the classes, by the reason: ``edge`` (no whole window), ``impure``, ``missing`` (more than
    half of the window is missing), and, where there are episodes, ``short`` (episodes in which no window fits).
DESCR : str
    Source, licence, labels and quirks of the database.
""",
    "errors": """
OSError
    Where files are missing and are not, or cannot be, downloaded (:class:`MissingFileError`, which is a ValueError
    too). It names the files, the environment variable and how to get them.
ValueError
    For an unknown class or record, a record without the wanted lead, a damaged record, windows that this machine's
    memory does not hold, or a parameter out of its range.
""",
}


def fill_fetcher(function: Callable) -> Callable:
    """Fill the shared texts into a fetcher's docstring."""
    return fill_doc(function, _TEXTS)
