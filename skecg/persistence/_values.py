"""Parameters and learned values as JSON and plain arrays, and back: whatever has another type is refused by name."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from ._archive import CONFIG, Archive, array_name

JOBLIB = "keep it with joblib, and load only such files as you made"
_DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_DEEP = 32  # brackets within brackets
_LONG = 2**26  # bytes of JSON
_WIDE = 2**24  # characters of an array of strings
_TIMES, _SPARE = 16, 2**26  # bytes of values that a file may ask for: so many times its own, and some more
# A string without an end goes to the end of the text, and nothing is tried twice: the time is that of one reading.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def to_json(value: Any, name: str) -> bytes:
    """Return strict JSON in ASCII; ValueError where it is too long to be read again."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(text) > _LONG:
        raise ValueError(f"{name} would have {len(text)} bytes, {_LONG} can be read: {JOBLIB}")
    return text


def from_json(text: bytes, name: str) -> Any:
    """Return what strict JSON says; ValueError for NaN, names that come twice, and what is nested too deeply."""
    if len(text) > _LONG:
        raise ValueError(f"{name} has {len(text)} bytes, at most {_LONG} are read")
    bare = np.frombuffer(_STRING.sub(b"", text), dtype=np.uint8)
    steps = np.isin(bare, list(b"[{")).astype(np.int8) - np.isin(bare, list(b"]}"))
    if len(steps) and np.cumsum(steps, dtype=np.int32).max() > _DEEP:
        raise ValueError(f"{name} is nested more than {_DEEP} deep")
    try:
        return json.loads(
            text.decode("ascii"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON that skecg.save writes: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in one object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def expect(given: Any, names: set[str], what: str) -> dict[str, Any]:
    """Return a dict that has these names and no others."""
    if not isinstance(given, dict) or set(given) != names:
        got = sorted(given) if isinstance(given, dict) else type(given).__name__
        raise ValueError(f"{what} must have {sorted(names)}; got {got!s:.300}")
    return given


def npy_head(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of a ``.npy`` file (format 1.0): the only ones that are written and accepted."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("ascii")


class Encoder:
    """Turns values into JSON's words and collects the arrays among them, equal ones once.

    Parameters
    ----------
    refer : callable
        ``refer(where, value)`` returns what stands for an object or class of the allow-list; TypeError for others.

    Attributes
    ----------
    contents : list of bytes
        The arrays, as ``.npy`` files.
    facts : list of dict
        What the configuration says of each.
    """

    def __init__(self, refer: Callable[[str, Any], Any]) -> None:
        self._refer = refer
        self.contents: list[bytes] = []
        self.facts: list[dict[str, Any]] = []
        self._known: dict[str, int] = {}

    def array(self, where: str, given: np.ndarray) -> dict[str, Any]:
        """Store an array of numbers and return what stands for it."""
        array = np.asarray(given, dtype=given.dtype.newbyteorder("<"), order="C")
        if array.dtype.str not in _DTYPES:
            raise TypeError(f"{where} is an array of {given.dtype}, which files do not hold: {JOBLIB}")
        content = npy_head(array.dtype.str, array.shape) + array.tobytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._known:
            self._known[digest] = len(self.contents)
            self.contents.append(content)
            kind = {"dtype": array.dtype.str, "shape": list(array.shape)}
            self.facts.append({**kind, "size": len(content), "sha256": digest})
        return {"array": self._known[digest]}

    def value(self, where: str, value: Any, *, refer: bool = False, depth: int = 0) -> Any:
        """Return a value in JSON's words.

        Parameters
        ----------
        where : str
            What it is, for messages.
        value : object
            None, a bool, number or string (those of numpy become Python's), a list, tuple or dict of such values, an
            array of numbers or strings, a tensor, or a numpy RandomState.
        refer : bool, default=False
            Whether objects and classes of the allow-list may be in it.
        depth : int, default=0
            How deep it lies.

        Returns
        -------
        words : object
            For ``json``.
        """
        if depth > _DEEP // 4:
            raise ValueError(f"{where} is nested too deeply to be saved")
        if value is None or isinstance(value, str):
            return value if value is None else str.__str__(value)  # of an enumeration its value, not its name
        if isinstance(value, bool | np.bool_):
            return bool(value)
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            number = float(value)
            return number if math.isfinite(number) else {"float": str(number)}
        if type(value) in (list, tuple):
            kept = [self.value(where, part, refer=refer, depth=depth + 1) for part in value]
            return kept if isinstance(value, list) else {"tuple": kept}
        if type(value) is dict:
            pairs = [[self.value(where, part, refer=refer, depth=depth + 1) for part in pair] for pair in value.items()]
            return {"dict": pairs}
        if type(value) is np.ndarray:
            return self._strings(where, value) if value.dtype.kind in "UO" else self.array(where, value)
        if type(value) in (torch.Tensor, torch.nn.Parameter):
            return {"tensor": self.tensor(where, value)}
        if type(value) is np.random.RandomState:
            _, keys, *rest = value.get_state()
            return {"random_state": [self.array(where, keys), *rest]}
        if refer:
            return self._refer(where, value)
        raise TypeError(f"{where} is {kind_of(value)}, which files of skecg.save do not hold: {JOBLIB}")

    def tensor(self, where: str, tensor: torch.Tensor) -> dict[str, Any]:
        """Store a tensor and return what stands for it."""
        try:
            array = tensor.detach().cpu().contiguous().numpy()
        except TypeError:
            raise TypeError(f"{where} is a tensor of {tensor.dtype}, which files do not hold: {JOBLIB}") from None
        return self.array(where, array)

    def _strings(self, where: str, array: np.ndarray) -> dict[str, Any]:
        """Return an array of strings, or of objects that are plain labels, in words."""
        values = array.tolist()
        plain = str if array.dtype.kind == "U" else str | int | float
        right = all(isinstance(value, plain) and value not in _FLOATS.values() and value == value for value in values)
        if array.ndim != 1 or not right:
            raise TypeError(f"{where} is an array of objects; files hold rows of strings and numbers: {JOBLIB}")
        kind = array.dtype.newbyteorder("<").str if array.dtype.kind == "U" else "object"
        if array.nbytes > 4 * _WIDE:
            raise ValueError(f"{where} is an array of strings of {array.nbytes} bytes, too large for a file: {JOBLIB}")
        return {"strings": [self.value(where, value) for value in values], "dtype": kind}


class Decoder:
    """Turns what an Encoder wrote into values again; what it did not write is a ValueError.

    Parameters
    ----------
    archive : Archive
        The open file.
    facts : list
        What the configuration says of the arrays.
    refer : callable
        ``refer(where, words)`` returns an object or class of the allow-list.
    """

    def __init__(self, archive: Archive, facts: Any, refer: Callable[[str, Any], Any]) -> None:
        self._archive, self._refer, self._read = archive, refer, set[int]()
        if not isinstance(facts, list):
            raise ValueError(f"{CONFIG}: arrays must be a list")
        self.facts = [_array_facts(given, f"{CONFIG}: {array_name(i)}") for i, given in enumerate(facts)]
        self._left = _SPARE + _TIMES * sum(archive.sizes.values())

    def array(self, where: str, words: Any) -> np.ndarray:
        """Return an array of numbers of one's own, its digest compared."""
        i = expect(words, {"array"}, where)["array"]
        if type(i) is not int or not 0 <= i < len(self.facts):
            raise ValueError(f"{where} must be one of the {len(self.facts)} arrays; got {i!r:.100}")
        dtype, shape, size, digest = self.facts[i]
        self._take(where, size)
        content = self._archive.read(array_name(i), size, digest)
        head = npy_head(dtype, shape)
        if not content.startswith(head):
            raise ValueError(
                f"{array_name(i)} is no array of {dtype} {shape} in numpy's format 1.0, as {CONFIG} says; nothing "
                "else of it was read"
            )
        self._read.add(i)
        return np.frombuffer(content, dtype=np.dtype(dtype), offset=len(head)).reshape(shape).copy()

    def _take(self, where: str, size: int) -> None:
        """Count the bytes of values: an array that is named a million times must not fill the memory."""
        self._left -= size
        if self._left < 0:
            raise ValueError(f"{where}: the values would have more than {_TIMES} times the bytes of the file")

    def refuse_unread(self) -> None:
        """Raise ValueError for arrays that belong to nothing."""
        unread = set(range(len(self.facts))) - self._read
        if unread:
            raise ValueError(f"{array_name(min(unread))} belongs to nothing: skecg.save did not write this file")

    def value(self, where: str, words: Any, *, refer: bool = False) -> Any:
        """Return a value.

        Parameters
        ----------
        where : str
            What it is, for messages.
        words : object
            What ``Encoder.value`` returned.
        refer : bool, default=False
            Whether objects and classes of the allow-list may be in it.

        Returns
        -------
        value : object
            As it was.
        """
        if words is None or isinstance(words, str | bool | int | float):
            return words
        if isinstance(words, list):
            return [self.value(where, part, refer=refer) for part in words]
        if not isinstance(words, dict) or not words:
            raise ValueError(f"{where} has no meaning: {words!r:.100}")
        kind, inner = next(iter(words.items()))
        if kind == "strings":
            return self._strings(where, expect(words, {"strings", "dtype"}, where))
        if len(words) != 1:
            raise ValueError(f"{where} has no meaning: {words!r:.100}")
        if kind == "float" and isinstance(inner, str) and inner in _FLOATS:
            return _FLOATS[inner]
        if kind == "tuple" and isinstance(inner, list):
            return tuple(self.value(where, inner, refer=refer))
        if kind == "dict" and isinstance(inner, list) and all(isinstance(p, list) and len(p) == 2 for p in inner):
            return _dict(where, [tuple(self.value(where, pair, refer=refer)) for pair in inner])
        if kind == "array":
            return self.array(where, words)
        if kind == "tensor":
            return torch.from_numpy(self.array(where, inner))
        if kind == "random_state" and isinstance(inner, list) and len(inner) == 4:
            return self._random_state(where, inner)
        if refer and kind in ("object", "class"):
            return self._refer(where, words)
        raise ValueError(f"{where} has no meaning: {words!r:.100}")

    def _strings(self, where: str, words: dict[str, Any]) -> np.ndarray:
        values, kind = words["strings"], words["dtype"]
        plain = str | int | float if kind == "object" else str
        if not isinstance(values, list) or not all(isinstance(value, plain) for value in values):
            raise ValueError(f"{where} must be a row of strings")
        if kind == "object":
            array = np.empty(len(values), dtype=object)
            array[:] = values
            return array
        width = re.fullmatch(r"<U(0|[1-9][0-9]{0,7})", kind) if isinstance(kind, str) else None
        longest = max(map(len, values), default=0)
        if not width or int(width[1]) < longest or int(width[1]) * max(1, len(values)) > _WIDE:
            raise ValueError(f"{where} must be strings of a fitting width; got {kind!r:.100}")
        self._take(where, 4 * int(width[1]) * len(values))
        return np.array(values, dtype=kind)

    def _random_state(self, where: str, words: list) -> np.random.RandomState:
        keys, (position, has_gauss, cached) = self.array(where, words[0]), words[1:]
        right = keys.dtype == np.uint32 and keys.shape == (624,)
        if not right or type(position) is not int or not 0 <= position <= 624 or type(has_gauss) is not int:
            raise ValueError(f"{where} is no state of a random generator")
        generator = np.random.RandomState()
        generator.set_state(("MT19937", keys, position, int(has_gauss == 1), number(where, cached)))
        return generator


def number(where: str, value: Any) -> float:
    """Return a float; ValueError for anything else."""
    if type(value) not in (int, float):
        raise ValueError(f"{where} must be a number; got {value!r:.100}")
    return float(value)


def _array_facts(given: Any, where: str) -> tuple[str, tuple[int, ...], int, str]:
    """Return dtype, shape, size and digest of an array, which must agree before any memory is asked for."""
    given = expect(given, {"dtype", "shape", "size", "sha256"}, where)
    dtype, shape, size, digest = (given[name] for name in ("dtype", "shape", "size", "sha256"))
    if dtype not in _DTYPES:
        raise ValueError(f"{where} must be of numbers, one of {', '.join(_DTYPES)}; got {dtype!r:.100}")
    if not isinstance(shape, list) or len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise ValueError(f"{where} has no shape of an array: {shape!r:.100}")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{where} has no SHA-256")
    shape = tuple(shape)
    if type(size) is not int or size != len(npy_head(dtype, shape)) + math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"{where}: {size!r:.100} bytes are not those of {dtype} {shape}")
    return dtype, shape, size, digest


def _dict(where: str, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if not all(key is None or isinstance(key, str | int | float | tuple) for key, _ in pairs):
        raise ValueError(f"{where} must be a dict of plain keys")
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{where} has a key twice")
    return found


def kind_of(value: Any) -> str:
    """Name the kind of a value, for a message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return f"a {type(value).__name__}"
