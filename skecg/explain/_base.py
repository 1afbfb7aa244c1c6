"""What every explainer needs, once: the classifier inside, targets, scores, batches, the private twin."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OneToOneFeatureMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted

from ..classifiers import ECGClassifier
from ..utils._batching import map_batches
from ..utils._callbacks import CallbacksMixin, fit_part, fit_task
from ..utils._digest import array_digest
from ..utils._display import DisplayMixin
from ..utils._docs import fill_doc
from ..utils._random import cudnn
from ..utils._stored import WindowCube
from ..utils._transformer import ECGTransformerMixin
from ..utils._twin import plain_torch, private_twin
from ..utils._validation import check_ecg, check_fs, check_number, is_2d
from ._provenance import COMMON, provenance_of

_WRONG_KIND = (
    "estimator must be an ECGClassifier, or a Pipeline, search or FrozenEstimator that ends in one; got {}. "
    "ECGClassifier.from_module takes a torch module that is trained"
)
_EXTREME = 100.0  # no ECG in mV comes near it: the data are in another unit, or an artefact


def is_fitted(estimator: Any) -> bool:
    """Tell whether an estimator is fitted, by scikit-learn's own rules."""
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        return False
    return True


def unwrap(estimator: Any) -> tuple[list[Any], ECGClassifier]:
    """Return (steps before the classifier, the classifier) of any nesting of FrozenEstimator, search and Pipeline."""
    before = []
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, Pipeline):
            before.append(estimator[:-1])
            estimator = estimator[-1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            break
    if not isinstance(estimator, ECGClassifier):
        raise TypeError(_WRONG_KIND.format(type(estimator).__name__))
    return before, estimator


@dataclass(frozen=True)
class TargetScore:
    """Which output of the network is explained, and as which number.

    Parameters
    ----------
    multilabel : bool
        Whether each output has a sigmoid of its own.
    cut : ndarray
        Logits (of two classes: their difference) above which a label is predicted.
    output : {"logit", "margin", "probability"}
        Margin is the logit less the logsumexp of the others; of one label, its logit.
    """

    multilabel: bool
    cut: np.ndarray
    output: str

    def choose(self, logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Return the positions (n,) that were given, and where they are -1 the predicted ones."""
        logits = logits.detach()
        if logits.shape[1] == 2 and not self.multilabel:  # two classes obey the threshold, as in predict
            predicted = (logits[:, 1].double() - logits[:, 0].double() > float(self.cut)).long()
        else:
            predicted = torch.where(logits.isnan(), -torch.inf, logits).argmax(1)
        return torch.where(given < 0, predicted, given)

    def passes(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Tell by window whether the target is what the network predicts (multi-label: passes its threshold)."""
        if not self.multilabel:
            return self.choose(logits, torch.full_like(target, -1)) == target
        cut = torch.from_numpy(np.broadcast_to(self.cut, logits.shape[1:]).copy()).to(target.device)
        return logits.detach().double().gather(1, target[:, None])[:, 0] > cut[target]

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return what is explained (n,), differentiable."""
        chosen = logits.gather(1, target[:, None])[:, 0]
        if self.output == "logit" or (self.multilabel and self.output == "margin"):
            return chosen
        if self.multilabel:
            return chosen.sigmoid()
        if self.output == "probability":
            return logits.softmax(1).gather(1, target[:, None])[:, 0]
        return chosen - logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)


class BaseExplainer(DisplayMixin, CallbacksMixin, MetaEstimatorMixin, ECGTransformerMixin, BaseEstimator):
    """Base of the explainers; a subclass defines ``_explain_batch`` and ``relevance_kind``.

    ``_explain_batch(net, x, given, score, **context)`` gets the private twin, a tensor (n, n_leads, n_timesteps), the
    position of each window's target (-1: the predicted one) and the :class:`TargetScore`; it returns a dict of arrays:
    ``relevance``, ``score``, ``logits``, ``index`` (the positions explained), ``passed`` and the method's diagnostics.
    ``context`` is what ``_context`` returns, once for all batches, and the batch's rows of what ``_by_window`` returns.
    """

    relevance_kind = "signed"
    _output = "logit"  # what is explained; explainers with a choice have a parameter ``output``

    @fill_doc
    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> BaseExplainer:
        """Fit the classifier if need be; use a fitted one as it is.

        Parameters
        ----------
        %(X)s
        y : array-like of shape (n_samples,), default=None
            Labels; read only where the estimator is not fitted. Around a fitted one it may be a truth mask, for
            grid searches.
        **fit_params : dict
            What the estimator's ``fit`` takes beside, such as ``groups``.

        Returns
        -------
        self : explainer
            Fitted.

        Raises
        ------
        ValueError
            Where the classifier's parameters were changed after its fit, or y is missing for one that is not fitted.
        """
        fitted = is_fitted(self.estimator)
        with fit_task(self, X, y, max_subtasks=0 if fitted else 1) as task:
            self._check_parameters()
            self._check_kind()
            if fitted:
                unwrap(self.estimator)
                self._refuse_changed()
                self.estimator_ = self.estimator
            else:
                if y is None:
                    raise ValueError(
                        f"{type(self).__name__} requires y to be passed, but the target y is None: its estimator is "
                        "not fitted. Pass labels; or, where a fit was lost to clone (as in a search), wrap the "
                        "fitted classifier in sklearn.frozen.FrozenEstimator"
                    )
                routed = process_routing(self, "fit", **fit_params) if _routing() else None
                params = fit_params if routed is None else routed.estimator.fit
                self.estimator_ = fit_part(task, clone(self.estimator), X, y, **params)
                unwrap(self.estimator_)
            self._network_input(X, reset=True)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of metadata: ``fit`` hands it to the estimator.

        Returns
        -------
        routing : MetadataRouter
            As scikit-learn's meta-estimators have it.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(estimator=self.estimator, method_mapping=mapping)

    def _check_kind(self) -> None:
        """Raise TypeError unless the estimator, fitted or not, ends in an ECGClassifier."""
        end = self.estimator
        while not isinstance(end, ECGClassifier):
            if isinstance(end, Pipeline):
                end = end.steps[-1][1]
            elif isinstance(end, FrozenEstimator) or hasattr(end, "refit"):
                if not getattr(end, "refit", True):
                    raise TypeError(f"{type(end).__name__} with refit=False keeps no estimator to explain: refit it")
                end = end.estimator
            else:
                raise TypeError(_WRONG_KIND.format(type(end).__name__))

    def _refuse_changed(self) -> None:
        _, classifier = unwrap(self.estimator)
        changed = classifier._changed_params()
        if changed:
            raise ValueError(
                f"the classifier's parameters {changed} were changed after it was fitted, so it was not trained as "
                f"they say: fit it again, or pass sklearn.base.clone(classifier) to have {type(self).__name__} fit it"
            )

    def _check_parameters(self) -> None:
        check_number("batch_size", self.batch_size, low=1, integer=True)
        if self.fs is not None:
            check_fs(self.fs, type(self).__name__)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_") or is_fitted(self.estimator)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = not (hasattr(self.estimator, "fit") and is_fitted(self.estimator))
        return tags

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the classifier."""
        return unwrap(self._fitted())[1].classes_

    def _fitted(self) -> Any:
        self._check_kind()
        if not is_fitted(self):
            raise NotFittedError(
                f"the estimator of this {type(self).__name__} is not fitted: call fit(X, y) first; or, where a fit was "
                "lost to clone (as in a search or cross-validation), wrap the fitted classifier in "
                "sklearn.frozen.FrozenEstimator"
            )
        return self.estimator_ if hasattr(self, "estimator_") else self.estimator

    def _network_input(self, X: Any, reset: bool = False) -> tuple[np.ndarray, ECGClassifier, bool]:
        """Return the network's input (n_samples, n_leads, n_timesteps), the classifier, and whether it was 2-D."""
        before, classifier = unwrap(self._fitted())
        # the explainer's own X and the network's may differ in length (a resampler before it), so each is checked
        if reset or hasattr(self, "n_features_in_"):
            cube = check_ecg(self, X, reset=reset, lazy=True)
            if isinstance(cube, WindowCube) and before:
                cube.check()  # as an array in memory is: a step before the classifier might hide what is not finite
        for steps in before:
            X = steps.transform(X) if len(steps) else X
        return check_ecg(classifier, X, reset=False), classifier, is_2d(X)

    def _sampling_rate(self, classifier: ECGClassifier, needed_for: str) -> float:
        """Return fs (Hz): the explainer's, else the classifier's; ValueError where neither says it."""
        fs = self.fs if self.fs is not None else classifier.fs
        return check_fs(fs, f"{needed_for} of {type(self).__name__}")

    @fill_doc
    def transform(self, X: Any) -> np.ndarray:
        """Return the relevance of each sample.

        Parameters
        ----------
        %(X)s

        Returns
        -------
        R : ndarray, float32
            Of the shape of the network's input: (n_samples, n_timesteps) for 2-D X, else (n_samples, n_leads,
            n_timesteps).
        """
        return self._warned(X, None)[0].relevance

    @fill_doc
    def explain(self, X: Any, *, target: Any = None) -> Bunch:
        """Return the relevance with what belongs to it.

        Parameters
        ----------
        %(X)s
        target : "predicted", label or array-like of shape (n_samples,), default=None
            What is explained, instead of the parameter ``target``.

        Returns
        -------
        result : Bunch
            ``relevance`` (float32, of the shape of ``data``), ``relevance_kind`` ("signed", "positive" or "cam"),
            ``target`` (n_samples, labels), ``score`` (n_samples, what was explained), ``logits`` (n_samples,
            n_outputs; of the whole network), ``data`` (the network's input, read-only), ``flat`` (n_samples, n_leads;
            leads that are constant), ``extreme`` (n_samples; beyond 100 in absolute value, so hardly mV), for
            multi-label classifiers ``above_threshold`` (n_samples), and the
            method's own diagnostics; and ``provenance`` (:class:`~skecg.explain.Provenance`, how the result was made).

        Raises
        ------
        ValueError
            For X that does not fit, or a target that is no label of the classifier.
        """
        result, doubts = self._warned(X, target)
        own = {name: value for name, value in result.items() if name not in COMMON}
        result.provenance = provenance_of(
            self,
            function=f"{type(self).__name__}.explain",
            given={"shape": result.data.shape, "sha256": array_digest(result.data), "fs": self._known_fs()},
            target=self.target if target is None else target,
            labels=result.target,
            diagnostics={**own, "doubts": {text: len(rows) for rows, text in doubts}},
        )
        return result

    def _warned(self, X: Any, target: Any) -> tuple[Bunch, list[tuple[np.ndarray, str]]]:
        """Return what ``_explain`` does, and warn of what is doubtful."""
        result, doubts = self._explain(X, target)
        for rows, text in doubts:
            warnings.warn(
                f"{type(self).__name__}: in {len(rows)} of {len(result.target)} windows (first {rows[:10].tolist()}) "
                f"{text}",
                UserWarning,
                stacklevel=3,
            )
        return result, doubts

    def _known_fs(self) -> float | None:
        """Return fs (Hz), the explainer's or else the classifier's; None where neither says it."""
        return self.fs if self.fs is not None else unwrap(self._fitted())[1].fs

    def _explain(self, X: Any, target: Any) -> tuple[Bunch, list[tuple[np.ndarray, str]]]:
        """Return the result of ``explain``, and the windows (rows) that are doubtful with the reason."""
        self._check_parameters()
        data, classifier, flat = self._network_input(X)
        given = self._given_target(classifier, len(data), self.target if target is None else target)
        more = self._by_window(classifier, len(data))
        score = TargetScore(classifier.multilabel_, classifier._cut(), getattr(self, "output", self._output))
        device = classifier.device_
        with plain_torch(device, gradient=True):
            net = private_twin(classifier.module_)
            context = self._context(net, classifier)
            recurrent = any(isinstance(m, torch.nn.RNNBase) for m in net.modules())
            # cuDNN's recurrent layers have no backward pass in eval mode
            with cudnn(enabled=False) if recurrent and device.startswith("cuda") else nullcontext():
                out = map_batches(
                    lambda x, t, *rows: self._explain_batch(
                        net, x, torch.from_numpy(t).to(x.device), score, **context, **dict(zip(more, rows, strict=True))
                    ),
                    data,
                    self.batch_size,
                    device,
                    given,
                    *more.values(),
                    progress=type(self).__name__ if self.verbose else None,
                )
        relevance = out.pop("relevance")
        if relevance.shape != data.shape:  # a class activation map has no lead axis
            relevance = np.array(np.broadcast_to(relevance, data.shape))
        index, passed = out.pop("index"), out.pop("passed")
        result = Bunch(
            relevance=relevance[:, 0] if flat else relevance,
            relevance_kind=self.relevance_kind,
            target=classifier.classes_[index],
            data=_read_only(data[:, 0] if flat else data),
            flat=np.ptp(data, axis=-1) == 0,
            extreme=(data.max((1, 2)) > _EXTREME) | (data.min((1, 2)) < -_EXTREME),
            **out,
        )
        result.update(self._notes(context))
        if classifier.multilabel_:
            result.above_threshold = passed
        return result, self._doubts(result, relevance, self._finish(result, flat))

    def _finish(self, result: Bunch, flat: bool) -> list[tuple[np.ndarray, str]]:
        """Give the method's own diagnostics their last form; return (windows, what is doubtful of them)."""
        return []

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        """Return what ``_explain_batch`` needs beside its batch, computed once; it may change the twin."""
        return {}

    def _notes(self, context: dict[str, Any]) -> dict[str, Any]:
        """Return what ``explain`` says beside its arrays, of what ``_context`` found."""
        return {}

    def _by_window(self, classifier: ECGClassifier, n: int) -> dict[str, np.ndarray]:
        """Return what ``_explain_batch`` needs of each of n windows: arrays of n rows, cut into batches as X is."""
        return {}

    def _explain_batch(
        self, net: torch.nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, **context: Any
    ) -> dict[str, np.ndarray]:
        raise NotImplementedError  # abstract: every explainer defines it

    @staticmethod
    def _given_target(classifier: ECGClassifier, n: int, target: Any) -> np.ndarray:
        """Return each window's output, -1 for the predicted one.

        Labels, never positions: the only string that is no label is "predicted".
        """
        if isinstance(target, str) and target == "predicted":
            return np.full(n, -1)
        labels = np.asarray(target)
        if labels.ndim > 1 or (labels.ndim == 1 and len(labels) != n):
            raise ValueError(
                f"target must be 'predicted', a label, or one label for each of the {n} windows; got an array of "
                f"shape {labels.shape}"
            )
        labels = np.broadcast_to(labels, n)
        hit = labels[:, None] == np.asarray(classifier.classes_)[None, :]
        if not np.all(hit.any(1)):
            raise ValueError(
                f"target {np.unique(labels[~hit.any(1)])} is not among the classes {classifier.classes_.tolist()}: the "
                "network was not trained on it; explain one of these, or train with windows of it"
            )
        return hit.argmax(1)

    @staticmethod
    def _doubts(
        result: Bunch, relevance: np.ndarray, more: list[tuple[np.ndarray, str]]
    ) -> list[tuple[np.ndarray, str]]:
        """Return what makes an explanation empty or doubtful, with the windows; what is not finite becomes NaN."""
        bad = np.flatnonzero(~np.isfinite(relevance).all((1, 2)) | ~np.isfinite(result.score))
        result.relevance[bad] = np.nan
        found = (
            (bad, "the network or its gradient is not finite; their relevance is NaN"),
            (np.flatnonzero(~relevance.any((1, 2))), "the relevance is zero everywhere"),
            (np.flatnonzero(result.flat.all(1)), "every lead is constant"),
            (np.flatnonzero(result.extreme), f"values go beyond {_EXTREME:g} in absolute value: is the ECG in mV?"),
            *more,
        )
        return [(rows, text) for rows, text in found if len(rows)]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the samples of X; t0, t1, ... where a step before the network changed their number.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X.

        Returns
        -------
        names : ndarray of str objects
            One a column of 2-D output.
        """
        # a fitted estimator needs no fit, and then it knows the names of X
        source = self if hasattr(self, "n_features_in_") else _outermost(self._fitted())
        names = OneToOneFeatureMixin.get_feature_names_out(source, input_features)
        size = unwrap(self._fitted())[1].n_features_in_
        return names if size == len(names) else np.array([f"t{i}" for i in range(size)], dtype=object)


def layers_by_name(explainer: BaseExplainer) -> BaseExplainer:
    """Return a shallow copy of a fitted explainer whose parameters name layers that were given as modules.

    A copy of the network has other modules, of the same names.
    """
    if not is_fitted(explainer):
        return explainer  # a template, whose layers belong to no network yet
    names = {part: name for name, part in unwrap(explainer._fitted())[1].module_.named_modules() if name}

    def named(value: Any) -> Any:
        if isinstance(value, torch.nn.Module):
            return names.get(value, value)
        return type(value)(map(named, value)) if isinstance(value, list | tuple) else value

    own = copy.copy(explainer)
    for name, value in explainer.get_params(deep=False).items():
        if name != "estimator":
            setattr(own, name, named(value))
    return own


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written to: where no step comes before the network, it is the user's X."""
    view = array.view()
    view.flags.writeable = False
    return view


def _outermost(estimator: Any) -> Any:
    """Return the first step that saw X itself."""
    while isinstance(estimator, FrozenEstimator | Pipeline) or hasattr(estimator, "best_estimator_"):
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[0][1]
        else:
            estimator = estimator.best_estimator_ if hasattr(estimator, "best_estimator_") else estimator.estimator
    return estimator


def _routing() -> bool:
    from sklearn import get_config

    return get_config().get("enable_metadata_routing", False)
