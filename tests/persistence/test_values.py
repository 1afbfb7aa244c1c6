"""Values in JSON's words and back; JSON that plays tricks; arrays whose heads lie."""

from __future__ import annotations

import enum
import io
import json
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skecg.persistence._values import Decoder, Encoder, from_json, npy_head, to_json


class Kept:
    """An archive in memory."""

    def __init__(self, contents):
        self.contents = contents
        self.sizes = {f"arrays/{i}.npy": len(content) for i, content in enumerate(contents)}

    def read(self, name, size, sha256):
        return self.contents[int(name[7:-4])]


def refused(where, value):
    raise TypeError(where)


def there_and_back(value):
    encoder = Encoder(refused)
    words = from_json(to_json(encoder.value("it", value), "a"), "a")
    facts = json.loads(json.dumps(encoder.facts))
    decoder = Decoder(Kept(encoder.contents), facts, refused)
    found = decoder.value("it", words)
    decoder.refuse_unread()
    return found


scalars = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text()
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def same(a, b):
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b and str(a) == str(b)


@settings(max_examples=60, deadline=None)
@given(value=plain)
def test_plain_values(value):
    assert same(value, there_and_back(value))


@settings(max_examples=40, deadline=None)
@given(
    value=arrays.arrays(
        st.sampled_from("?bBhHiIqQefd") | st.sampled_from([">f4", ">i8", "<U3"]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
    )
)
def test_arrays(value):
    if value.dtype.kind == "U":
        value = value.ravel()
    found = there_and_back(value)
    assert found.dtype == value.dtype.newbyteorder("=") and found.shape == value.shape
    assert np.array_equal(found, value, equal_nan=value.dtype.kind == "f") and found.flags.writeable
    assert np.array_equal(np.signbit(found), np.signbit(value)) if value.dtype.kind == "f" else True


def test_other_values():
    assert there_and_back(np.float32(0.1)) == float(np.float32(0.1)) and type(there_and_back(np.str_("a"))) is str
    found = there_and_back(np.array(["a", 1, True, 0.5], dtype=object))
    assert found.dtype == object and found.tolist() == ["a", 1, True, 0.5]
    view = np.arange(24).reshape(2, 3, 4)[:, ::-1].T
    assert np.array_equal(there_and_back(view), view)
    tensor = torch.arange(4.0).reshape(2, 2).T
    assert torch.equal(there_and_back({"a": [tensor]})["a"][0], tensor)
    generator = np.random.RandomState(3)
    generator.standard_normal(3)
    found = there_and_back(generator)
    assert found.standard_normal(5).tolist() == generator.standard_normal(5).tolist()


def test_equal_arrays_are_kept_once():
    encoder = Encoder(refused)
    zeros = np.zeros(3)
    assert encoder.array("a", zeros) == encoder.array("b", zeros.copy()) == {"array": 0}
    assert encoder.array("c", zeros.astype(np.float32)) == encoder.array("d", np.zeros(3, ">f4")) == {"array": 1}
    assert encoder.array("e", -zeros) == {"array": 2}


def test_heads_are_those_of_numpy():
    for shape in ((), (0,), (3,), (2, 3), (1,) * 9, (2**40, 5)):
        for dtype in ("<f4", "|b1", "<i8"):
            want = np.lib.format.magic(1, 0)
            header = {"descr": dtype, "fortran_order": False, "shape": shape}
            file = io.BytesIO()
            np.lib.format.write_array_header_1_0(file, header)
            got = npy_head(dtype, shape)
            assert got.startswith(want) and len(got) % 64 == 0
            read = np.lib.format.read_array_header_1_0(io.BytesIO(got[8:]))
            assert read == (shape, False, np.dtype(dtype))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"[NaN]", "NaN is no number"),
        (b"[Infinity]", "Infinity is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "1e999 is too large"),
        (b'{"a": 1, "a": 2}', "a name comes twice"),
        (b'{"a": [{"b": 1, "c": 2, "b": 1}]}', "a name comes twice"),
        (b"[" * 40 + b"]" * 40, "nested more than 32 deep"),
        (b"[" * 10**6, "nested more than 32 deep"),
        (b'[{"a":' * 10**5, "nested more than 32 deep"),
        (b"1" * 5000, "is no JSON"),
        (b'"\xc3\xa4"', "is no JSON"),
        (b"", "is no JSON"),
        (b"[1,]", "is no JSON"),
        (b"[1] 2", "is no JSON"),
        (b"\x80\x04]", "is no JSON"),
        (b'"' + b"\\" * 10**6, "is no JSON"),
    ],
)
def test_json_that_is_none_of_ours(text, match):
    with pytest.raises(ValueError, match=match):
        from_json(text, "config.json")


def test_brackets_in_strings_are_letters():
    assert from_json(to_json(["[" * 100, '"{\\', "]]"], "a"), "a") == ["[" * 100, '"{\\', "]]"]


def test_json_that_is_too_long(monkeypatch):
    monkeypatch.setattr("skecg.persistence._values._LONG", 10)
    with pytest.raises(ValueError, match="at most 10 are read"):
        from_json(b" " * 11, "config.json")
    with pytest.raises(ValueError, match="10 can be read: keep it with joblib"):
        to_json(list(range(10)), "config.json")


FACTS = {"dtype": "<f4", "shape": [3], "size": len(npy_head("<f4", (3,))) + 12, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dtype": "|O"}, "must be of numbers"),
        ({"dtype": "<c8"}, "must be of numbers"),
        ({"dtype": "<U9"}, "must be of numbers"),
        ({"dtype": [["a", "<f4"]]}, "must be of numbers"),
        ({"dtype": "<M8[s]"}, "must be of numbers"),
        ({"shape": [4]}, "bytes are not those of"),
        ({"shape": [2**39, 2**39]}, "bytes are not those of"),
        ({"shape": [2**80]}, "no shape of an array"),
        ({"shape": [-3]}, "no shape of an array"),
        ({"shape": [3.0]}, "no shape of an array"),
        ({"shape": [True, 3]}, "no shape of an array"),
        ({"shape": [1] * 40}, "no shape of an array"),
        ({"shape": "3"}, "no shape of an array"),
        ({"size": 12}, "bytes are not those of"),
        ({"size": None}, "bytes are not those of"),
        ({"sha256": "A" * 64}, "has no SHA-256"),
        ({"sha256": None}, "has no SHA-256"),
        ({"more": 1}, "must have"),
    ],
)
def test_facts_of_arrays_that_lie(change, match):
    Decoder(Kept([]), [FACTS], refused)
    with pytest.raises(ValueError, match=match):
        Decoder(Kept([]), [{**FACTS, **change}], refused)


@pytest.mark.parametrize(
    "head",
    [
        npy_head("<f4", (4,)),
        npy_head("<i4", (3,)),
        npy_head("<f4", (3,)).replace(b"False", b"True "),
        npy_head("<f4", (3,)).replace(b"'<f4'", b"'|O' "),
        npy_head("<f4", (3,)).replace(b"\x01\x00", b"\x02\x00", 1),
        npy_head("<f4", (3,)).replace(b"(3,)", b"9**9"),
    ],
)
def test_heads_that_say_something_else(head):
    decoder = Decoder(Kept([head + b"\0" * 12]), [FACTS], refused)
    with pytest.raises(ValueError, match=r"arrays/0\.npy is no array of <f4 \(3,\)"):
        decoder.array("it", {"array": 0})


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"pickle": "gASV"},
        {"array": 1},
        {"array": -1},
        {"array": True},
        {"array": 0.0},
        {"array": 0, "more": 1},
        {"tensor": 0},
        {"tuple": 1},
        {"dict": [[1]]},
        {"dict": {"a": 1}},
        {"dict": [["a", 1], ["a", 2]]},
        {"dict": [[[1], 1]]},
        {"float": "1.0"},
        {"float": float("1")},
        {"class": "os.system"},
        {"object": 0},
        {"strings": ["a"]},
        {"strings": ["ab"], "dtype": "<U1"},
        {"strings": ["a"], "dtype": "<U99999999"},
        {"strings": ["a"] * 10, "dtype": "<U9999999"},
        {"strings": ["a"], "dtype": "O"},
        {"strings": [1], "dtype": "<U1"},
        {"strings": [None], "dtype": "object"},
        {"strings": "abc", "dtype": "<U3"},
        {"random_state": [1, 2, 3, 4]},
        {"random_state": [{"array": 0}, 0, 0, 0.0]},
        {"random_state": []},
    ],
)
def test_words_without_a_meaning(words):
    decoder = Decoder(Kept([npy_head("<f4", (3,)) + b"\0" * 12]), [FACTS], refused)
    with pytest.raises(ValueError, match="it "):
        decoder.value("it", [words])


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 60_000, b'["' + b'\\"' * 60_000 + b"\\", b'"a' * 60_001])
def test_strings_without_an_end_take_the_time_of_one_reading(text):
    before = time.process_time()
    with pytest.raises(ValueError, match="is no JSON that"):
        from_json(text, "a")
    assert time.process_time() - before < 5  # tried again at every quote it is a minute and more


def test_values_that_are_named_again_and_again_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("skecg.persistence._values._SPARE", 0)
    encoder = Encoder(refused)
    words = encoder.value("it", np.zeros(1000))
    for again, right in ((15, True), (17, False)):
        decoder = Decoder(Kept(encoder.contents), encoder.facts, refused)
        if right:
            assert len(decoder.value("it", [words] * again)) == again
            continue
        with pytest.raises(ValueError, match="it: the values would have more than 16 times the bytes of the file"):
            decoder.value("it", [words] * again)
        with pytest.raises(ValueError, match="the values would have more"):
            Decoder(Kept(encoder.contents), encoder.facts, refused).value("it", {"strings": ["a"], "dtype": "<U99999"})


def test_enumerations_of_strings_are_their_values():
    class Device(str, enum.Enum):  # noqa: UP042 - its str() is "Device.CPU", that of a StrEnum is "cpu"
        CPU = "cpu"

    assert there_and_back([Device.CPU, np.str_("auto")]) == ["cpu", "auto"]
