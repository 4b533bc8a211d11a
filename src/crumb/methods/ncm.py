"""Nearest class mean: the simplest baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.methods.closed_form import ClosedForm, ClosedFormConfig
from crumb.methods.registry import register


@register
class NearestClassMean(ClosedForm):
    """A frame belongs to the class whose mean feature vector is nearest.

    Mensink, Verbeek, Perronnin, Csurka, "Distance-Based Image Classification: Generalizing to New
    Classes at Near-Zero Cost", TPAMI 2013, with the Euclidean distance and without learned metric.
    """

    name = "ncm"
    summary = "the nearest mean of a class"
    paper = "Mensink et al., TPAMI 2013"
    keeps = "class means"
    Config = ClosedFormConfig
    covariance = False

    def scores(self, features: Tensor) -> Tensor:
        """Minus half the squared distance to the mean of each class, [B, classes].

        A class without frames scores minus infinity.
        """
        vectors, means = self.describe(features), self.moments.mean_vectors()
        nearness = vectors @ means.T - means.square().sum(1) / 2
        nearness = nearness - vectors.square().sum(1, keepdim=True) / 2
        return nearness.masked_fill(self.moments.counts == 0, -torch.inf)
