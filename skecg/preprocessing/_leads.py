"""Leads in the order that a network expects, in mV, as a step of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

from ..utils._docs import fill_doc
from ..utils._leads import STANDARD_LEADS, arrange_leads, check_lead_order, check_units, to_millivolts
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_ecg, check_option, is_2d


@fill_doc
class LeadArranger(ClassNamePrefixFeaturesOutMixin, WindowTransformer):
    """Leads put into an order by their names, missing limb leads derived, in mV; with a look at whether that is true.

    Names may be spelt in any usual way (aVR, AVR, avr; II, DII). Of the six limb leads, two make the others: III, aVR,
    aVL and aVF come from I and II where they are missing. With ``check``, ``transform`` warns where amplitudes are not
    those of mV, and where the limb leads break Einthoven's law, which means that names or order are wrong.

    Parameters
    ----------
    lead_names : sequence of str
        Names of the leads of X, in their order. There is no default: where it is left at None, ``fit`` raises a
        ValueError.
    order : sequence of str, default=("I", "II", "III", "aVR", "aVL", "aVF", "V1", ..., "V6")
        Leads wanted, in their order; others are left out.
    derive : bool, default=True
        Whether missing limb leads are derived.
    missing : {"raise", "zero", "drop"}, default="raise"
        What happens with a lead that is neither there nor derived: a ValueError in ``fit``, a lead of zeros, or no
        such lead.
    modified : bool, default=False
        Whether MLII counts as II and the like, see :func:`canonical_name`.
    unit : {"mV", "V", "uV", "µV"}, default="mV"
        Unit of X.
    check : bool, default=True
        Whether ``transform`` looks at amplitudes and at Einthoven's law.

    Attributes
    ----------
    lead_names_out_ : list of str
        Names of the leads of the result.
    derived_ : list of str
        Those that are derived.
    missing_ : list of str
        Those that were asked for and are not there.
    %(fitted)s

    See Also
    --------
    arrange_leads : The same as a function.
    check_units : The look at amplitudes.
    check_lead_order : The look at Einthoven's law.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import LeadArranger
    >>> X = np.array([[[0.8, 1.0], [0.5, 0.4]]])  # one window of II and I
    >>> arranger = LeadArranger(["DII", "DI"], order=["I", "II", "III"], check=False)
    >>> arranger.fit_transform(X)[0].round(2).tolist()
    [[0.5, 0.4000000059604645], [0.800000011920929, 1.0], [0.30000001192092896, 0.6000000238418579]]
    >>> arranger.derived_
    ['III']
    """

    def __init__(
        self,
        lead_names: Sequence[str] | None = None,
        *,
        order: Sequence[str] = STANDARD_LEADS,
        derive: bool = True,
        missing: str = "raise",
        modified: bool = False,
        unit: str = "mV",
        check: bool = True,
    ) -> None:
        self.lead_names = lead_names
        self.order = order
        self.derive = derive
        self.missing = missing
        self.modified = modified
        self.unit = unit
        self.check = check

    def fit(self, X: Any, y: Any = None) -> LeadArranger:
        """Check X and the names and keep which lead goes where; nothing is learned from the values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, in ``unit``.
        y : object, default=None
            Not read.

        Returns
        -------
        self : LeadArranger
            Itself.
        """
        super().fit(X, y)
        _, info = self._arrange(np.zeros((self.n_leads_, 1), dtype=np.float32))
        self.lead_names_out_, self.derived_, self.missing_ = info.lead_names, info.derived, info.missing
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Arrange the leads of each window.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, in ``unit``.

        Returns
        -------
        X_new : ndarray, float32, mV
            (n_samples, n_leads_out, n_timesteps), where X is 2-D and one lead comes out (n_samples, n_timesteps).
        """
        check_is_fitted(self)
        self._check_parameters()
        flat = is_2d(X)
        cube = to_millivolts(check_ecg(self, X, reset=False), unit=self.unit)
        if self.check:
            check_units(cube)
            check_lead_order(cube, self.lead_names)
        out = np.ascontiguousarray(self._arrange(cube)[0], dtype=np.float32)
        return out[:, 0] if flat and out.shape[1] == 1 else out

    def _check_parameters(self) -> None:
        if self.lead_names is None:
            raise ValueError("LeadArranger needs the names of the leads of X: pass lead_names, e.g. ['I', 'II']")
        check_option("missing", self.missing, ("raise", "zero", "drop"))
        for name in ("derive", "modified", "check"):
            check_option(name, getattr(self, name), (True, False))
        check_option("unit", self.unit, ("mV", "V", "uV", "µV"))

    def _arrange(self, data: np.ndarray) -> tuple[np.ndarray, Any]:
        return arrange_leads(
            data, self.lead_names, self.order, derive=self.derive, missing=self.missing, modified=self.modified
        )

    @property
    def _n_features_out(self) -> int:
        return len(self.lead_names_out_) * self.n_timesteps_
