"""The file attacked from within: configurations that an attacker wrote, with sizes and digests that fit."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline

from skecg.classifiers import AugmentChain, DropoutBursts, ECGClassifier
from skecg.explain import ShapExplainer
from skecg.models import RibeiroNet
from skecg.persistence import load, save
from skecg.preprocessing import BandpassFilter, ECGScaler, LeadArranger, PadOrCrop
from skecg.relevance import RelevanceAggregator
from tests.tiny import toy_ecg

from .files import edited

X, Y, _, _ = toy_ecg(n=24, n_leads=2, n_timesteps=64)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One file of each kind."""
    folder = tmp_path_factory.mktemp("saved")
    augment = AugmentChain(DropoutBursts())
    clf = ECGClassifier("ECGLSTM", module__width=1, augment=augment, max_epochs=1, random_state=0).fit(X, Y)
    steps = LeadArranger(["I", "II"], order=["I", "II"], check=False), BandpassFilter(fs=100), PadOrCrop(64)
    made = {
        "clf": clf,
        "pipe": make_pipeline(*steps, ECGScaler(per="dataset"), clf).fit(X, Y),
        "shap": ShapExplainer(FrozenEstimator(clf), background=X[:2], random_state=0).fit(X),
        "agg": RelevanceAggregator(random_state=0).fit(X, record=np.arange(24)),
        "net": ECGClassifier.from_module(RibeiroNet(2, 64, 2, width=1), "ab", n_leads=2, n_timesteps=64),
    }
    return {name: save(estimator, folder / name) for name, estimator in made.items()}


def at(*path, to):
    """Return a change of one place of the configuration."""

    def change(config, members):
        inner = config
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to(inner[path[-1]]) if callable(to) else to

    return change


def whole(to):
    """Return a change of the configuration as a whole."""
    return lambda config, members: to(config)


def of(i, *path):
    """Return the path to something of the i-th object."""
    return "objects", i, *path


def swap(i, to):
    """Return a change of the bytes of an array, its head kept: of the i-th, or of a weight or what was learned."""

    def change(config, members):
        learned = config["objects"][-1]["learned"]
        where = i if isinstance(i, int) else learned.get(i, learned.get("weights", {}).get(i))
        name = f"arrays/{where}.npy"
        content = members[name]
        head = content[: content.index(b"\n") + 1]
        dtype = np.dtype(config["arrays"][where]["dtype"])
        array = np.frombuffer(content, dtype=dtype, offset=len(head)).copy()
        members[name] = head + to(array).tobytes()

    return change


def nan(array):
    array[0] = np.nan
    return array


LEARNED, PARAMETERS = "learned", "parameters"
ATTACKS = {
    # classes
    "os.system": ("clf", at(*of(-1, "class"), to="os.system"), "'os.system' is not among.*nothing was imported"),
    "subprocess": ("pipe", at(*of(0, "class"), to="subprocess.Popen"), "is not among those that files may name"),
    "private": ("pipe", at(*of(0, "class"), to="skecg.preprocessing.ECGScaler"), "is not among"),
    "class is a list": ("pipe", at(*of(0, "class"), to=["ECGScaler"]), "is not among"),
    "another class": ("pipe", at(*of(0, "class"), to="BandpassFilter"), "BandpassFilter has the parameters"),
    "optimizer": ("clf", at(*of(-1, PARAMETERS, "optimizer"), to={"class": "os.system"}), "'os.system' is not among"),
    "eval": ("clf", at(*of(-1, PARAMETERS, "criterion"), to={"class": "builtins.eval"}), "is not among"),
    "loss as optimiser": (
        "clf", at(*of(-1, PARAMETERS, "optimizer"), to={"class": "torch.nn.MSELoss"}), "optimizer of ECG.* cannot be"
    ),
    "string as optimiser": ("clf", at(*of(-1, PARAMETERS, "optimizer"), to="torch.optim.Adam"), "optimizer of ECGC"),
    "class in a plain place": (
        "clf", at(*of(-1, PARAMETERS, "lr"), to={"class": "torch.optim.Adam"}), "has no meaning"
    ),
    "object in a plain place": ("clf", at(*of(-1, PARAMETERS, "lr"), to={"object": 0}), "lr of ECGC.* has no meaning"),
    "callback": (
        "clf", at(*of(-1, PARAMETERS, "callbacks"), to=[{"class": "torch.optim.SGD"}]), "callbacks of ECG.*can"
    ),
    "callback that writes": (
        "clf", at(*of(-1, PARAMETERS, "callbacks"), to=[{"class": "skorch.callbacks.Checkpoint"}]), "is not among"
    ),
    "network": ("clf", at(*of(-1, PARAMETERS, "module"), to="os.system"), "module 'os.system' is not a network"),
    "function as network": ("clf", at(*of(-1, PARAMETERS, "module"), to="read_weights"), "is not a network of skecg"),
    "network by class": ("clf", at(*of(-1, PARAMETERS, "module"), to={"network": "os"}), "is not a network of skecg"),
    "another network": ("clf", at(*of(-1, PARAMETERS, "module"), to="ECGNet"), "cannot be built|it is another network"),
    "module by name": (
        "clf", at(*of(-1, PARAMETERS, "module"), to={"given": "os.system"}), "its network is 'os.system'"
    ),
    "module is a number": ("clf", at(*of(-1, PARAMETERS, "module"), to=3), "module must have"),
    "augment": ("clf", at(*of(-1, PARAMETERS, "augment"), to=None), "objects that belong to nothing"),
    "augment is a class": (
        "clf", at(*of(-1, PARAMETERS, "augment"), to={"class": "torch.nn.MSELoss"}), "augment of ECG"
    ),
    # parameters
    "unknown": ("clf", at(*of(-1, PARAMETERS, "more"), to=1), "has the parameters"),
    "missing": ("clf", at(*of(-1, PARAMETERS), to=lambda p: {k: p[k] for k in p if k != "lr"}), "has the parameters"),
    "script in a name": (
        "clf", at(*of(-1, PARAMETERS, "module__');alert(1);('"), to=1), "cannot have parameters .*alert"
    ),
    "script in a name of the fit": (
        "clf", at(*of(-1, LEARNED, "changed", "module__');alert(1);('"), to=1), "cannot have parameters .*alert"
    ),
    "checkpoint_dir": ("clf", at(*of(-1, PARAMETERS, "checkpoint_dir"), to="/tmp/evil"), "has the parameters"),
    "memory": ("pipe", at(*of(-1, PARAMETERS, "memory"), to="/tmp/evil"), "has the parameters"),
    "no parameters": ("clf", at(*of(-1, PARAMETERS), to=[]), "parameters must be an object"),
    "batch_size": ("clf", at(*of(-1, PARAMETERS, "batch_size"), to="64"), "batch_size must be an integer"),
    "threshold": ("clf", at(*of(-1, PARAMETERS, "threshold"), to=0.7), "threshold must be 0.5"),
    "threshold's type": ("clf", at(*of(-1, PARAMETERS, "threshold"), to={"dict": []}), "threshold must be"),
    "device": ("clf", at(*of(-1, PARAMETERS, "device"), to="rm -rf /"), "device must be a name of torch's"),
    "meta": ("clf", at(*of(-1, PARAMETERS, "device"), to="meta"), "device 'meta' holds no weights"),
    "device's type": ("clf", at(*of(-1, PARAMETERS, "device"), to=[1]), "device must be"),
    "width of a billion": ("clf", at(*of(-1, PARAMETERS, "module__width"), to=10**9), "settings beyond 1048576"),
    "width of a million": ("clf", at(*of(-1, PARAMETERS, "module__width"), to=10**6), "another network"),
    "width as string": ("clf", at(*of(-1, PARAMETERS, "module__width"), to="1"), "width must be an integer"),
    "unknown setting": ("clf", at(*of(-1, PARAMETERS, "module__more"), to=1), "does not take"),
    "unknown part": ("clf", at(*of(-1, PARAMETERS, "os__system"), to="ls"), "has the parameters"),
    "unknown loss setting": ("clf", at(*of(-1, PARAMETERS, "criterion__more"), to=1), "cannot be built"),
    "filter without a rate": ("pipe", at(*of(1, PARAMETERS, "fs"), to=-1), "sampling rate|must be a finite number"),
    "augment's own": ("clf", at(*of(0, PARAMETERS, "more"), to=1), "DropoutBursts has no parameters"),
    "augment's type": ("clf", at(*of(0, PARAMETERS, "length"), to="1"), "length must be an integer"),
    "settings of an instance": (
        "net", at(*of(-1, PARAMETERS, "module", "settings", "width"), to=2**19), "another network"
    ),
    "settings that are none": ("net", at(*of(-1, PARAMETERS, "module", "settings"), to=[]), "settings of module must"),
    "frozen": ("net", at(*of(-1, PARAMETERS, "module", "frozen"), to=["os"]), "no such frozen parameters"),
    "steps": ("pipe", at(*of(-1, PARAMETERS, "steps"), to=[1]), "steps of Pipeline cannot"),
    "steps that are no estimators": (
        "pipe", at(*of(-1, PARAMETERS, "steps"), to=[{"tuple": ["a", {"class": "torch.nn.MSELoss"}]}]), "steps of Pipe"
    ),
    # references
    "itself": ("pipe", at(*of(-1, PARAMETERS, "steps"), to=[{"tuple": ["a", {"object": 7}]}]), "does not come before"),
    "later": ("shap", at(*of(2, PARAMETERS, "augment"), to={"object": 3}), "does not come before it"),
    "negative": ("shap", at(*of(-1, PARAMETERS, "estimator"), to={"object": -1}), "does not come before it"),
    "estimator is a class": (
        "shap", at(*of(-1, PARAMETERS, "estimator"), to={"class": "torch.nn.MSELoss"}), "cannot be"
    ),
    "estimator is a part": (
        "shap", at(*of(-1, PARAMETERS, "estimator"), to={"object": 0}), "estimator of Shap.*cannot"
    ),
    "explained": ("shap", at(*of(-1, LEARNED, "estimator_"), to=None), "estimator_ of ShapExplainer must be"),
    "no objects": ("clf", at("objects", to=[]), "objects must be a list of 1 to 256"),
    "many objects": ("pipe", at("objects", to=lambda o: [o[0]] * 300 + o), "objects must be a list of 1 to 256"),
    "stray object": ("pipe", at("objects", to=lambda o: [copy.deepcopy(o[1]), *o]), "takes callables"),
    "a part alone": ("clf", at("objects", to=lambda o: o[:2]), "belong to nothing"),
    # what was learned
    "sizes": ("clf", at(*of(-1, LEARNED, "n_timesteps_"), to=65), "n_features_in_ of ECGClassifier must be"),
    "huge sizes": ("pipe", at(*of(0, LEARNED, "n_leads_"), to=2**70), "n_leads_ of LeadArranger must be size"),
    "size as bool": ("clf", at(*of(-1, LEARNED, "n_leads_"), to=True), "n_leads_ must be a size"),
    "labels": ("clf", at(*of(-1, LEARNED, "classes_", "strings"), to=["N", "N", "PVC"]), "classes_ must be different"),
    "one label": ("clf", at(*of(-1, LEARNED, "classes_", "strings"), to=["N"]), "classes_ must be different labels"),
    "fewer labels": ("clf", at(*of(-1, LEARNED, "classes_", "strings"), to=["N", "PVC"]), "another network"),
    "labels of another type": (
        "clf", at(*of(-1, LEARNED, "classes_"), to=["a", "b", "c"]), "classes_ must be different"
    ),
    "multilabel": ("clf", at(*of(-1, LEARNED, "multilabel_"), to=1), "multilabel_ must be a bool"),
    "seed": ("clf", at(*of(-1, LEARNED, "_seed"), to=-1), "_seed a seed"),
    "validation": ("clf", at(*of(-1, LEARNED, "validation_indices_"), to=[1]), "validation_indices_ must be rows"),
    "more learned": ("clf", at(*of(-1, LEARNED, "net_"), to=1), "what ECGClassifier has learned must have"),
    "dunder": ("pipe", at(*of(0, LEARNED, "__class__"), to="x"), "LeadArranger has learned"),
    "nothing learned": ("pipe", at(*of(0, LEARNED), to={}), "LeadArranger has learned"),
    "half learned": ("pipe", at(*of(0, LEARNED), to=lambda v: {"n_leads_": 2}), "has learned .* too"),
    "spans": ("pipe", at(*of(2, LEARNED, "valid_"), to=[0, 1]), "valid_ of PadOrCrop must be span"),
    "scale": ("pipe", at(*of(3, LEARNED, "scale_"), to=1.0), "scale_ of ECGScaler must be numbers"),
    "no scale": ("pipe", at(*of(3, LEARNED), to=lambda v: {k: v[k] for k in v if k != "scale_"}), "'scale_'.* too"),
    "names": ("pipe", at(*of(1, LEARNED, "feature_names_in_"), to={"strings": ["a"], "dtype": "object"}), "strings"),
    "a part learns": ("clf", at(*of(0, LEARNED), to={"a": 1}), "DropoutBursts learns nothing"),
    "fit's parameters": ("clf", at(*of(-1, LEARNED, "changed"), to={"module": "os"}), "parameters of the fit must be"),
    "fit's parameters too": ("clf", at(*of(-1, LEARNED, "changed"), to={"os": 1}), "os"),
    "fit's optimiser": ("clf", at(*of(-1, LEARNED, "changed"), to={"optimizer": "os"}), "optimizer of ECGC.*cannot be"),
    "history": ("clf", at(*of(-1, LEARNED, "history"), to=7), r"history\.json has no history 7"),
    "frozen weights": ("clf", at(*of(-1, LEARNED, "frozen"), to="dense"), "no such frozen parameters"),
    # weights
    "a weight less": ("clf", at(*of(-1, LEARNED, "weights"), to=lambda w: dict(list(w.items())[1:])), "differ in"),
    "a weight more": ("clf", at(*of(-1, LEARNED, "weights", "evil"), to=0), "differ in .*evil"),
    "another weight": ("clf", at(*of(-1, LEARNED, "weights", "dense.bias"), to=0), "dense.bias of ECGLSTM is float32"),
    "weights by name": ("clf", at(*of(-1, LEARNED, "weights", "dense.bias"), to="../x"), "must be one of the"),
    "no weights": ("clf", at(*of(-1, LEARNED, "weights"), to=None), "weights must be an object"),
    "weights of an instance": ("net", at(*of(-1, PARAMETERS, "module", "weights"), to=3), "weights of module must be"),
    "nan": ("clf", swap(0, nan), "has NaN or infinite weights"),
    "other logits": ("clf", swap("logits", lambda a: a * 1.01), "its network gives the logits .* and gave"),
    "nan logits": ("clf", swap("logits", nan), "its network gives the logits"),
    "other weights": (
        "clf", swap("dense.bias", lambda a: a + np.float32(0.1)), "its network gives the logits .* and gave"
    ),
    "another window": ("clf", at(*of(-1, LEARNED, "reference"), to=0), "the reference is no window"),
    # the rest
    "format": ("clf", at("format", to=2), "a newer skecg wrote it, so update"),
    "old format": ("clf", at("format", to=0), "format must be 1"),
    "format as bool": ("clf", at("format", to=True), "format must be 1"),
    "versions": ("clf", at("versions", "torch", to=["2"]), "versions must be strings"),
    "fewer versions": ("clf", at("versions", to={}), "versions must have"),
    "another key": ("clf", at("more", to=1), r"config\.json must have"),
    "another key inside": ("clf", at(*of(0, "more"), to=1), "object 0 must have"),
    "a list": ("clf", whole(lambda config: [config]), r"config\.json must have"),
    "deep": ("clf", whole(lambda config: b"[" * 10**5 + b"]" * 10**5), "nested more than"),
    "not JSON": ("clf", whole(lambda config: b"\x80\x04\x95"), "no JSON"),
    "NaN": ("clf", whole(lambda config: b'{"format": NaN}'), "NaN is no number"),
    "arrays": ("clf", at("arrays", to={}), "arrays must be a list"),
    "an array less": ("clf", at("arrays", to=lambda a: a[1:]), "the members are not those"),
    "an array more": ("clf", at("arrays", to=lambda a: [*a, a[0]]), "the members are not those"),
    "no history": ("clf", at("history", to=None), "the members are not those"),
    "objects as array": ("clf", at("arrays", 0, "dtype", to="|O"), "must be of numbers"),
    "huge shape": ("clf", at("arrays", 0, "shape", to=[2**30, 2**30]), "bytes are not those of"),
    "output": ("pipe", at(*of(0, "output"), to="os"), "cannot have the output 'os'"),
    "requests": ("pipe", at(*of(0, "requests"), to={"__init__": {}}), "cannot have the output .* and the requests"),
    "requests of a method": ("clf", at(*of(-1, "requests"), to={"fit": {"os": True}}), "Unexpected args"),
    "requests' value": ("clf", at(*of(-1, "requests"), to={"fit": {"groups": "os.system"}}), "cannot ask for"),
    "aggregator's facts": ("agg", at(*of(-1, LEARNED, "facts", "learned", "seed"), to="1"), "seed must be an integer"),
    "aggregator's arrays": (
        "agg", at(*of(-1, LEARNED, "arrays"), to=lambda a: {**a, "sums": a["counts"]}), "sums must be"
    ),
    "aggregator's parameters": (
        "agg", at(*of(-1, PARAMETERS, "by"), to="lead"), "parameters of RelevanceAggregator must"
    ),
    "aggregator's NaN": ("agg", swap(0, nan), "sums must be finite"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "match"), ATTACKS.values(), ids=ATTACKS)
def test_configurations_that_an_attacker_wrote(sources, tmp_path, monkeypatch, kind, change, match):
    def called(*given, **more):
        raise AssertionError("the file was executed")

    monkeypatch.setattr(os, "system", called)
    path = edited(sources[kind], tmp_path / "attacked.skecg", change)
    with pytest.raises(ValueError, match=rf"(?s)attacked\.skecg cannot be loaded: .*(?:{match})"):
        load(path)


def test_the_edits_alone_are_harmless(sources, tmp_path):
    for path in sources.values():
        again = edited(path, tmp_path / "edited", lambda config, members: None)
        assert type(load(again)) is type(load(path))
        last = save(load(again), tmp_path / "saved")
        assert last.read_bytes() == path.read_bytes()


def test_histories_that_are_none(sources, tmp_path):
    for text in (b"{}", b"[]", b"[1]", b"[[1]]", b'[[{"batches": 1}]]', b"[[], []]", b'[[{"a": {"class": "os"}}]]'):

        def change(config, members, text=text):
            members["history.json"] = text

        path = edited(sources["clf"], tmp_path / "a", change)
        with pytest.raises(ValueError, match=r"history\.json"):
            load(path)


def test_layers_without_end_are_not_built(sources, tmp_path):
    def deeper(config, members):
        found = config["objects"][-1]["parameters"]
        found["module"], found["module__depth"] = "ResNet1d", 34
        del found["module__width"]

    with pytest.raises(ValueError, match=r"another network|far more layers"):
        load(edited(sources["clf"], tmp_path / "a", deeper))


def test_objects_that_hold_each_other_without_end_are_refused(tmp_path):
    path = save(Pipeline([("a", ECGScaler()), ("b", ECGScaler())]), tmp_path / "a")

    def doubled(times):
        def change(config, members):
            first, _, last = config["objects"]
            config["objects"] = [first]
            for i in range(times):
                steps = [{"tuple": [name, {"object": i}]} for name in "ab"]
                config["objects"].append({**last, "parameters": {**last["parameters"], "steps": steps}})

        return change

    assert len(load(edited(path, tmp_path / "b", doubled(5))).steps) == 2
    # a repr or a clone would go through 2^40 scalers
    with pytest.raises(ValueError, match="hold each other in more than 4096 ways"):
        load(edited(path, tmp_path / "c", doubled(40)))
