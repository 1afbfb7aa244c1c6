"""Files of skecg.save taken apart, changed and put together again, with digests that fit or do not."""

from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from skecg.persistence import load, save
from skecg.persistence._archive import write_archive


def members_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write(path, members):
    with open(path, "wb") as file:
        write_archive(file, members)
    return path


def told(content):
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def edited(source, path, change):
    """Write a file as an attacker would: changed by ``change(config, members)``, all sizes and digests made to fit."""
    members = members_of(source)
    config = json.loads(members["config.json"])
    changed = change(config, members)
    config = config if changed is None else changed
    if isinstance(config, dict):
        if config.get("history") is not None and "history.json" in members:
            config["history"] = told(members["history.json"])
        for i, facts in enumerate(config.get("arrays", ())):
            if isinstance(facts, dict) and f"arrays/{i}.npy" in members and "size" in facts:
                facts.update(told(members[f"arrays/{i}.npy"]))
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    return write(path, {**members, "config.json": text})


def again(estimator, tmp_path, **given):
    """Save, load, and save the loaded one: the second file must have the bytes of the first."""
    path = save(estimator, tmp_path / "a.skecg")
    loaded = load(path, **given)
    if not given:
        assert save(loaded, tmp_path / "b.skecg").read_bytes() == path.read_bytes()
    return loaded


def alike(a, b):
    """Compare what two estimators say of themselves: parameters and learned attributes of any kind."""
    if isinstance(a, BaseEstimator):
        left, right = vars(a), vars(b)
        assert type(a) is type(b) and left.keys() == right.keys()
        return all(alike(left[name], right[name]) for name in left if name not in ("net_", "_rows", "_formed"))
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, nn.Module):
        return str(a) == str(b) and all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))
    if isinstance(a, np.random.RandomState):
        return all(map(np.array_equal, a.get_state()[1:], b.get_state()[1:]))
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    plain = a is None or isinstance(a, str | int | float | type)
    return a == b and type(a) is type(b) if plain else repr(vars(a)) == repr(vars(b))
