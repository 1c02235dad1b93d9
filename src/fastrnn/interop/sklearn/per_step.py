"""PerStep: scikit-learn's transformers on the steps of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from fastrnn.interop.sklearn._base import row_weights
from fastrnn.interop.sklearn._input import Sequences, as_given, pieces, plain, read

__all__ = ["PerStep"]


def _inner_has(name: str) -> Any:
    return available_if(lambda self: hasattr(self._inner(), name))


class PerStep(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Apply a transformer to each step of sequences.

    It sees one table with the steps of all sequences, [ΣT_i, F], and what it makes of them is put together again in
    the way that sequences came in. So scalers, imputers, encoders, PCA, feature selection and others work in front of
    the estimators here.

    Parameters
    ----------
    transformer : transformer, optional
        ``StandardScaler()`` by default.

    Attributes
    ----------
    transformer_ : transformer
        A clone, fitted.
    n_features_in_ : int
        Columns of a 2-D array, and features of a step otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> from fastrnn.interop.sklearn import PerStep
    >>> steps = PerStep(PolynomialFeatures(degree=2, include_bias=False))
    >>> [x.tolist() for x in steps.fit_transform([[[1.0], [2.0]], [[3.0]]])]
    [[[1.0, 1.0], [2.0, 4.0]], [[3.0, 9.0]]]
    """

    def __init__(self, transformer: Any = None) -> None:
        self.transformer = transformer

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> PerStep:
        """Fit a clone of the transformer to all steps.

        Parameters
        ----------
        X : array [n, T] or [n, T, F], or list of [T_i, F] or [T_i]
        y : array [n], or one with a value a step in the form of X, optional
            For transformers that use it; a sequence's value counts for each of its steps.
        **fit_params
            For the transformer's `fit`; of them `sample_weight` has a weight a sequence.
        """
        if not hasattr(self._inner(), "transform"):
            raise TypeError(f"transformer: expected one such as StandardScaler(), got {self.transformer!r:.80}")
        found = self._read(X, reset=True)
        self.transformer_ = clone(self._inner())
        weight = row_weights(fit_params.get("sample_weight"), len(found))
        if weight is not None:
            fit_params = {**fit_params, "sample_weight": np.repeat(weight, found.lengths)}
        self.transformer_.fit(found.steps, _of_steps(y, found), **fit_params)
        return self

    def transform(self, X: Any) -> Any:
        """Transform each step.

        Returns
        -------
        array [n, T, F'], or [n, T] for a 2-D array of which a step remains one number; list of [T_i, F'] for a list
        """
        check_is_fitted(self, "transformer_")
        return self._apply(X, self.transformer_.transform)

    @_inner_has("inverse_transform")
    def inverse_transform(self, X: Any) -> Any:
        """Undo `transform`, step by step; X is what that returned."""
        check_is_fitted(self, "transformer_")
        found = plain(X)
        made = _put_together(found, _plain(self.transformer_.inverse_transform(found.steps)))
        return made[..., 0] if self._from_table and found.form == "3d" and made.shape[2] == 1 else made

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of a step's features; of the columns, for a 2-D array of which a step remains one number."""
        check_is_fitted(self, "transformer_")
        if not self._from_table:
            return np.asarray(self.transformer_.get_feature_names_out(input_features), object)
        names = np.asarray(self.transformer_.get_feature_names_out(["x"]), object)
        columns = getattr(self, "feature_names_in_", None) if input_features is None else np.asarray(input_features)
        if columns is None:
            columns = [f"x{k}" for k in range(self.n_features_in_)]
        if len(columns) != self.n_features_in_:
            raise ValueError(f"input_features: expected {self.n_features_in_} names, got {len(columns)}")
        return np.asarray(columns, object) if len(names) == 1 else names

    # ---- inside

    def _inner(self) -> Any:
        return StandardScaler() if self.transformer is None else self.transformer

    def _read(self, X: Any, *, reset: bool) -> Sequences:
        found = read(self, X, None, reset=reset, finite=not get_tags(self._inner()).input_tags.allow_nan)
        if reset:
            self._from_table = found.form == "2d"
        return found

    def _apply(self, X: Any, function: Any) -> Any:
        found = self._read(X, reset=False)
        return _put_together(found, _plain(function(found.steps)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self._inner())
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.input_tags.positive_only = inner.input_tags.positive_only
        tags.target_tags.required = inner.target_tags.required
        tags.non_deterministic = inner.non_deterministic
        if inner.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = inner.transformer_tags.preserves_dtype
        return tags


def _plain(made: Any) -> NDArray[Any]:
    """What a transformer returned, as an array: it may be sparse, or a frame."""
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made)


def _put_together(found: Sequences, steps: NDArray[Any]) -> Any:
    if len(steps) != len(found.steps):
        raise ValueError(f"transformer: expected one row a step, {len(found.steps)}, got {len(steps)}")
    if found.form in ("2d", "3d"):
        cube = steps.reshape(len(found), -1, steps.shape[1])
        return cube[..., 0] if found.flat and cube.shape[2] == 1 else cube
    items = pieces(steps, found.lengths)
    if found.flat and steps.shape[1] == 1:
        items = [item[:, 0] for item in items]
    return as_given(found, items)


def _of_steps(y: Any, found: Sequences) -> Any:
    """A target for each step: those given, or a sequence's for each of its steps."""
    if y is None:
        return None
    y = y if isinstance(y, list | tuple) else np.asarray(y)
    if len(y) != len(found):
        raise ValueError(f"y: expected {len(found)}, one for each sequence, got {len(y)}")
    if all(np.ndim(one) == 1 and len(one) == n for one, n in zip(y, found.lengths, strict=True)):
        return np.concatenate(list(y))
    return np.repeat(np.asarray(y), found.lengths, axis=0)
