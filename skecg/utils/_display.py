"""What a notebook shows of an estimator: nothing that is computed for the display alone, and never an error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

from sklearn.base import BaseEstimator


class DisplayMixin:
    """Chooses what scikit-learn's HTML display (1.9 and later) and ``dir``, so the tab key, look up.

    scikit-learn gets every attribute for them. Properties may take minutes then, or raise, as those of an estimator
    whose parameters were changed after its fit do; the notebook would show a traceback.
    """

    _costly: ClassVar[frozenset[str]] = frozenset()

    def __dir__(self) -> list[str]:
        return [name for name in object.__dir__(self) if name in self._costly or self._is_there(name)]

    def _is_there(self, name: str) -> bool:
        try:
            getattr(self, name)
        except AttributeError:  # such as a method that what is wrapped does not have
            return False
        except Exception:  # there, but not to be had now
            return True
        return True

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        shown = {}
        for name in object.__dir__(self):
            if name.endswith("_") and not name.startswith("_") and name not in self._costly:
                try:
                    shown[name] = getattr(self, name)
                except Exception:  # whatever it is, there is nothing to show
                    continue
        table = BaseEstimator._get_fitted_attr_html(SimpleNamespace(**shown), doc_link)
        table.estimator_class = type(self)
        return table
