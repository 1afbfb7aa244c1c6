"""The command that writes the tables of docs/databases.md: ``python docs/write_databases.py [--data-home FOLDER]``.

It reads every record that lies in the data home, counts and cuts. What stands between ``<!-- begin NAME -->`` and
``<!-- end NAME -->`` in the page is replaced, the rest stays; a table whose records are not there is left as it is.
The annotations of ltafdb may lie in the archive ``ltafdb/annotations.tar.xz``.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tarfile
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

from skecg.datasets import (  # noqa: E402 - the tree beside the docs first
    fetch_cpsc2018,
    fetch_ludb,
    fetch_mitdb,
    fetch_ptbxl,
    get_data_home,
    load_challenge,
    paper_counts,
    read_record,
    segment_beats,
    segment_rhythm,
    segment_windows,
    truth_masks,
)
from skecg.datasets._databases import AAMI, BEATS, LTAFDB, LTDB, MITDB, RHYTHMS, VFDB, Database  # noqa: E402

_log = logging.getLogger("skecg.docs")

# What no file tells: records of the whole database, and the licence, as PhysioNet states them.
_ODC, _CC = "ODC-By 1.0", "CC BY 4.0"
SOURCES = {
    "mitdb": (48, _ODC),
    "ltdb": (7, _ODC),
    "ltafdb": (84, _ODC),
    "vfdb": (22, _ODC),
    "ludb": (200, _ODC),
    "ptbxl": (21_799, _CC),
    "cpsc2018": (6_877, _CC),
    "cpsc2018_extra": (3_453, _CC),
    "georgia": (10_344, _CC),
}
UNKNOWN_PEOPLE = {"cpsc2018", "cpsc2018_extra", "georgia"}
ANNOTATED = {database.name: database for database in (MITDB, LTDB, LTAFDB, VFDB)}


class NotThere(Exception):
    """Records that a table is made of are not in the data home."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; numbers to the right, thousands with commas, None as a dash."""
    rows = [list(row) for row in rows]
    right = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(head))]
    lines = [head, ["---:" if r else "---" for r in right], *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def code(texts: Iterable[str]) -> str:
    """Return annotation symbols or notes as Markdown code."""
    return " ".join(f"`{text}`" for text in texts)


def replace(page: str, name: str, text: str) -> str:
    """Put a text between the markers of a name; ValueError where the page has them not exactly once."""
    pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", flags=re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"the page must have <!-- begin {name} --> and <!-- end {name} --> once")
    return pattern.sub(lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page)


# ------------------------------------------------------------------------------------------------------------ reading


def headers(folder: Path) -> list[Path]:
    """Return the records of a folder, by number where names are numbers."""
    if not folder.is_dir():
        raise NotThere(f"{folder.name} is not in the data home")
    found = [path.with_suffix("") for path in folder.rglob("*.hea")]
    return sorted(found, key=lambda path: (path.parent, not path.name.isdigit(), len(path.name), path.name))


def read(path: Path, annotator: str | None = None) -> Bunch:
    """Read a record with its signal where that is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # gains of 0 and the like stand in the page
        signal = any(path.with_suffix(suffix).is_file() for suffix in (".dat", ".mat"))
        return read_record(path, annotator=annotator, signal=signal)


def records(home: Path, database: Database) -> Iterator[Bunch]:
    """Yield all annotated records of a database, with ``group``."""
    for path in headers(home / database.name):
        record = read(path, database.annotator)
        record.group = database.group(record.record)
        yield record


def check_whole(home: Path, database: Database) -> None:
    """Raise NotThere where a record of a database lacks its annotations."""
    annotated = [path for path in headers(home / database.name) if path.with_suffix(f".{database.annotator}").is_file()]
    if lacking := set(database.records) - {path.name for path in annotated}:
        raise NotThere(f"{database.name} has no annotations of {', '.join(sorted(lacking)[:5])}")


# ------------------------------------------------------------------------------------------------------------- tables


def overview(home: Path) -> str:
    """One line a database: what is here, what was read, and whether its checksums agree."""
    rows = []
    for name, (everything, licence) in SOURCES.items():
        n, signals, verified, seconds, leads, rates, people = 0, 0, 0, 0.0, Counter(), set(), set()
        try:
            paths = headers(home / name)
        except NotThere as reason:
            _log.warning("overview: %s", reason)
            continue
        for path in paths:
            record = read(path)
            n, signals = n + 1, signals + (record.data is not None)
            verified += bool(record.get("verified"))
            seconds += (record.n_timesteps or 0) / record.fs
            leads[len(record.lead_names)] += 1
            rates.add(record.fs)
            people.add(ANNOTATED[name].group(path.name) if name in ANNOTATED else path.name)
        if name == "ptbxl":  # its table tells
            people = set(fetch_ptbxl(data_home=home, records="local", download_if_missing=False, verbose=0).groups)
        rows.append(
            [
                f"`{name}`",
                everything,
                n,
                signals,
                verified,
                "not told" if name in UNKNOWN_PEOPLE else f"{len(people):,}",
                "; ".join(f"{rate:g}" for rate in sorted(rates)),
                "; ".join(map(str, sorted(leads))),
                f"{seconds / 3600:,.1f}" if seconds >= 3600 else f"{seconds / 3600:.2f}",
                licence,
            ]
        )
    head = ("database", "records of all", "read here", "with signal", "checksums agree", "people")
    return table((*head, "fs, Hz", "leads", "hours", "licence"), rows)


def beats(home: Path, name: str) -> str:
    """Count beats by class, and the windows of 2 s around them, as they come and pure."""
    database = ANNOTATED[name]
    check_whole(home, database)
    classes = {label: BEATS[label] for label in BEATS} if database is MITDB else dict(database.beats)
    counts: dict[str, Counter] = {label: Counter() for label in (*classes, *(f"AAMI {x}" for x in AAMI))}
    people: dict[str, Counter] = defaultdict(Counter)
    pure_of: dict[str, Counter] = defaultdict(Counter)
    for record in records(home, database):
        for labels, front in ((classes, ""), (AAMI, "AAMI ")):
            for label, symbols in labels.items():
                found = int(np.isin(record.symbol, list(symbols)).sum())
                counts[front + label]["beats"] += found
                people[front + label][record.group] += found
            cut = segment_beats(record, classes=labels)
            bare = {**record, "data": None}
            pure = segment_beats(bare, classes=labels, pure=True, edge="annotations")
            for label in labels:
                counts[front + label]["cut"] += int((cut.target == label).sum())
                counts[front + label]["pure"] += int((pure.target == label).sum())
                pure_of[front + label][record.group] += int((pure.target == label).sum())
    rows = []
    for label, count in counts.items():
        if not count["beats"]:
            continue
        shares = [
            f"{of[label].most_common(1)[0][1] / n:.0%}" if n else "-"
            for of, n in ((people, count["beats"]), (pure_of, count["pure"]))
        ]
        symbols = AAMI[label.removeprefix("AAMI ")] if label.startswith("AAMI ") else classes[label]
        having = sum(n > 0 for n in people[label].values())
        rows.append([label, code(symbols), count["beats"], count["cut"], count["pure"], having, *shares])
    head = ("class", "symbols", "beats", "windows of 2 s", "pure ones", "people")
    return table((*head, "most of one person", "most pure ones of one person"), rows)


def rhythms(home: Path, name: str) -> str:
    """Count rhythm marks, the windows at them and inside episodes."""
    database = ANNOTATED[name]
    check_whole(home, database)
    counts: dict[str, Counter] = {label: Counter() for label in RHYTHMS}
    people: dict[str, Counter] = defaultdict(Counter)
    for record in records(home, database):
        for label, notes in RHYTHMS.items():
            counts[label]["marks"] += int(np.isin(record.aux_note[record.symbol == "+"].astype(str), notes).sum())
        bare = {**record, "data": None}
        for kind, cut in (
            ("at", segment_rhythm(record, classes=tuple(RHYTHMS), at="marks")),
            ("alone", segment_rhythm(bare, classes=tuple(RHYTHMS), at="marks", alone=True)),
            ("inside", segment_rhythm(record, classes=tuple(RHYTHMS))),
        ):
            for label, n in zip(*np.unique(cut.target, return_counts=True), strict=True):
                counts[str(label)][kind] += int(n)
                people[str(label)][record.group] += int(n)
    rows = [
        [label, code(RHYTHMS[label]), n["marks"], n["at"], n["alone"], n["inside"], len(people[label])]
        for label, n in counts.items()
        if n["marks"]
    ]
    head = ("rhythm", "notes", "marks", "windows of 2 s at marks", "no other mark in it", "windows inside episodes")
    return table((*head, "people"), rows)


def windows(home: Path) -> str:
    """Label windows of 8 s of MIT-BIH by the commonest abnormal AAMI class, in the halves of de Chazal et al."""
    check_whole(home, MITDB)
    halves = fetch_mitdb(data_home=home, classes="aami", signal=False, download_if_missing=False, verbose=0)
    side = dict(zip(halves.record.tolist(), halves.split.tolist(), strict=True))
    counts: Counter = Counter()
    truth: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records(home, MITDB):
        if not side.get(record.record):
            continue
        cut = segment_windows(record)
        masks = {kind: truth_masks(cut, kind=kind).mean(axis=1) for kind in ("span", "qrs")}
        for label in np.unique(cut.target).tolist():
            rows = cut.target == label
            counts[label, side[record.record]] += int(rows.sum())
            for kind, shares in masks.items():
                truth[label, kind].extend(shares[rows].tolist())
    rows = [
        [
            label,
            counts[label, "DS1"],
            counts[label, "DS2"],
            *(f"{np.mean(truth[label, kind]):.2f}" for kind in ("span", "qrs")),
        ]
        for label in AAMI
        if counts[label, "DS1"] + counts[label, "DS2"]
    ]
    head = ("label", "DS1", "DS2", "share of the window in spans", "in R +-150 ms")
    return table(head, rows)


def counted(home: Path) -> str:
    """Set the first paper's table beside ours."""
    found = paper_counts(home)
    if lacking := sorted({count.database for count in found if count.count is None}):
        raise NotThere(f"no annotations of {', '.join(lacking)}")
    return paper_table(found)


def paper_table(found: Sequence) -> str:
    """Return the table of the paper's counts."""
    head = ("database", "class", "published", "here", "outcome", "annotations", "rule")
    return table(
        head, [[f"`{c.database}`", c.label, c.published, c.count, c.outcome, c.annotated, c.rule] for c in found]
    )


def labels(ecg: Bunch) -> list[list[object]]:
    """Return a row for each label of a database of whole recordings: records, and people who have it."""
    return [
        [name, int(column.sum()), len(set(ecg.groups[column > 0]))]
        for name, column in zip(ecg.target_names, np.asarray(ecg.target).T, strict=True)
    ]


def ludb(home: Path) -> str:
    """Count rhythms, diagnoses and waves of LUDB."""
    headers(home / "ludb")
    ecg = fetch_ludb(data_home=home, download_if_missing=False, verbose=0)
    known = fetch_ludb(data_home=home, classes="ribeiro", download_if_missing=False, verbose=0)
    extra = [row for row in labels(known) if row[0] in ("1dAVb", "RBBB", "LBBB")]
    kinds, n = np.unique(ecg.intervals["wave"], return_counts=True)
    marked = ecg.annotated[..., 1] - ecg.annotated[..., 0]
    waves = [
        [
            wave,
            int(n[kinds == wave][0]),
            ecg.n_unpaired[wave],
            f"{(ecg.masks == value).sum() / marked.sum():.1%}",
        ]
        for value, wave in enumerate(("P", "QRS", "T"), start=1)
    ]
    return "\n\n".join(
        [
            table(("label", "records", "people"), labels(ecg) + extra),
            table(("wave", "marked, all leads", "a limit missing", "share of the annotated part"), waves),
        ]
    )


def ptbxl(home: Path) -> str:
    """Count superclasses and the statements that networks of this library know, by the recommended split."""
    headers(home / "ptbxl")
    names = ("NORM", "MI", "STTC", "CD", "HYP", "1dAVb", "RBBB", "LBBB", "SB", "AF", "ST", "PVC", "PAC")
    ecg = fetch_ptbxl(data_home=home, records="local", classes=names, download_if_missing=False, verbose=0)
    given = fetch_ptbxl(
        data_home=home, records="local", classes=names, not_given=False, download_if_missing=False, verbose=0
    )
    rows = []
    for i, (name, n, people) in enumerate(labels(ecg)):
        has = ecg.target[:, i] > 0
        sides = [int((has & (ecg.split == side)).sum()) for side in ("train", "validation", "test")]
        rows.append([name, n, int(given.target[:, i].sum()), people, *sides])
    total = [int((ecg.split == side).sum()) for side in ("train", "validation", "test")]
    rows.append(["any or none", len(ecg.record), None, len(set(ecg.groups)), *total])
    pairs = "; ".join(" and ".join(pair) for pair in ecg.duplicates) or "none"
    fast = fetch_ptbxl(
        data_home=home, records="local", sampling_rate=500, download_if_missing=False, verbose=0
    ).record.tolist()
    return "\n\n".join(
        [
            table(("label", "records", "with a likelihood", "people", "folds 1-8", "fold 9", "fold 10"), rows),
            f"Here: version {ecg.version}, {len(ecg.record)} records at 100 Hz and {len(fast)} at 500 Hz "
            f"({', '.join(fast)}); {int(ecg.withdrawn.sum())} of them left out by 1.0.3; pairs that are one "
            f"recording: {pairs}.",
        ]
    )


def challenge(home: Path) -> str:
    """Count the diagnoses of the Challenge's databases, and what a row of 10 s does to records of other lengths."""
    headers(home / "cpsc2018")
    parts = {"cpsc2018": fetch_cpsc2018(data_home=home, records="local", download_if_missing=False, verbose=0)}
    for name in ("cpsc2018_extra", "georgia"):
        if (home / name).is_dir():
            parts[name] = load_challenge(home / name, verbose=0)
    rows = [[f"`{name}`", label, n] for name, ecg in parts.items() for label, n, _ in labels(ecg)]
    rows += [[f"`{name}`", "any or none", len(ecg.record)] for name, ecg in parts.items()]
    cuts = []
    for name, ecg in parts.items():
        n = ecg.data.shape[-1]
        seconds = ecg.n_timesteps / ecg.fs
        length = " to ".join(dict.fromkeys(f"{value:g}" for value in (seconds.min(), seconds.max())))
        shorter, longer = int((ecg.n_timesteps < n).sum()), int((ecg.n_timesteps > n).sum())
        cuts.append([f"`{name}`", len(ecg.record), length, longer, shorter])
    return "\n\n".join(
        [
            table(("database", "label", "records"), rows),
            table(("database", "records", "length, s", "cropped to 10 s", "filled to 10 s"), cuts),
        ]
    )


BLOCKS: dict[str, Callable[[Path], str]] = {
    "overview": overview,
    "beats of mitdb": lambda home: beats(home, "mitdb"),
    "rhythms of mitdb": lambda home: rhythms(home, "mitdb"),
    "windows of mitdb": windows,
    "beats of ltdb": lambda home: beats(home, "ltdb"),
    "beats of ltafdb": lambda home: beats(home, "ltafdb"),
    "rhythms of ltafdb": lambda home: rhythms(home, "ltafdb"),
    "rhythms of vfdb": lambda home: rhythms(home, "vfdb"),
    "labels of ludb": ludb,
    "labels of ptbxl": ptbxl,
    "labels of the Challenge": challenge,
    "counts of the first paper": counted,
}


# ------------------------------------------------------------------------------------------------------------ command


def unpack(home: Path, folder: Path) -> Path:
    """Return a data home that has all that ``home`` has, with ltafdb's annotations out of their archive."""
    archive = home / "ltafdb" / "annotations.tar.xz"
    if not archive.is_file():
        return home
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    for path in home.iterdir():
        if path.is_dir() and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve(), target_is_directory=True)
    return folder


def write(page: str, source: Any, names: Iterable[str], blocks: Mapping[str, Callable[[Any], str]] = BLOCKS) -> str:
    """Return the page with these blocks made anew, as far as their records are there; each is made of ``source``."""
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of fetchers, about classes that a sample has not
                page = replace(page, name, blocks[name](source))
        except NotThere as reason:
            _log.warning("%s stays as it is: %s", name, reason)
        else:
            _log.info("%s written", name)
    return page


def parser_of(description: str, page: str) -> argparse.ArgumentParser:
    """Return a parser with the options of all commands that write tables of records."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data-home", help="folder of the databases; SKECG_DATA where it is not given")
    parser.add_argument("--page", type=Path, default=HERE / page)
    parser.add_argument("--only", help="blocks, with commas between them; all where it is not given")
    return parser


def chosen(parser: argparse.ArgumentParser, only: str | None, blocks: Iterable[str]) -> list[str]:
    """Return the blocks that --only names; end with a message where there is no such block."""
    names = list(blocks) if only is None else [name.strip() for name in only.split(",")]
    if unknown := [name for name in names if name not in blocks]:
        parser.error(f"no blocks {', '.join(unknown)}; there are {', '.join(blocks)}")
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = parser_of("Count what the databases hold, and write it into a page.", "databases.md")
    given = parser.parse_args(arguments)
    names = chosen(parser, given.only, BLOCKS)
    with tempfile.TemporaryDirectory(prefix="skecg-") as folder:
        home = unpack(get_data_home(given.data_home), Path(folder))
        text = write(given.page.read_text(encoding="utf-8"), home, names)
    given.page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    sys.exit(main())
