"""Feature density and distance: k-NN, Mahalanobis, kernel density, clusters.

All four score a label by how far its feature lies from a reference: trusted labels, features, or
the labels themselves (`FeatureDistance` has the shared options). They need scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.measures.attention import patch_coverage, real_patches
from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.measures.common.scales import conformal, extra
from clipvg.model import GroundingModel
from clipvg.reliability.batch import Batch
from clipvg.reliability.image_measure import observe
from clipvg.reliability.measurer import Context, Scores
from clipvg.runtime.fields import ABOVE_ZERO

Reference = LabelTable | np.ndarray | str | Path | None
# Distances (N,) of features (N, K) from the reference. The second argument is each label's row in
# the reference, −1 if it is not in it: no label counts as its own neighbour.
Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]

CONTEXT = "context"
Kind = Literal["joint", "label", "region", "text", "image"]


class FeatureDistance(ModelMeasure):
    """Distance from a reference: r = share of the reference that lies at least as far out.

    Args:
        features: kind of feature, see `label_features`.
        reference: trusted labels, their file, (M, K) features, "context" for ``context.reference``,
            or None for the labels themselves.
        max_reference: largest number of reference rows; a larger reference is subsampled randomly.
        seed: seed of the subsampling.
    """

    features: Kind = "label"
    reference: Reference = field(default=None, repr=False)
    max_reference: int
    seed: int = 0
    reads = "given"

    @property
    def from_context(self) -> bool:
        """Whether the reference is ``context.reference``."""
        return isinstance(self.reference, str) and self.reference == CONTEXT

    @cached_property
    def given(self) -> LabelTable | np.ndarray | None:
        """The given reference, read if it is a file; None for the context's or the labels."""
        if isinstance(self.reference, str | Path):
            return None if self.from_context else read_labels(self.reference)
        return self.reference

    @property
    def requires(self) -> frozenset[str]:
        """What the measure needs besides the labels."""
        return frozenset({"images", "reference"} if self.from_context else {"images"})

    def observe(self, batch: Batch) -> Tensor:
        """Return the features, (B, K)."""
        return label_features(batch, self.model, self.features)

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Return the share of the reference that lies at least as far out as each label."""
        scores = np.full(len(observed), np.nan, dtype=np.float32)
        known = np.isfinite(observed).all(axis=1)
        own = self.reference is None
        reference = observed[known] if own else self._reference(labels, context)
        if not known.any():
            return Scores(scores)
        if own and len(reference) == 1:
            why = f"{self.name}: one label, nothing to compare with"
            return Scores(scores, dict.fromkeys(np.flatnonzero(known).tolist(), why))
        if len(reference) < 2 or reference.shape[1] != observed.shape[1]:
            raise InputError(
                f"measure {self.name!r}: the reference holds {reference.shape} features and the "
                f"labels {observed.shape}; expected at least 2 rows of the labels' width."
            )
        rng = np.random.default_rng(self.seed)
        part = np.arange(len(reference))
        if len(reference) > self.max_reference:
            part = np.sort(rng.choice(len(reference), self.max_reference, replace=False))
        held = np.full(len(observed), -1, dtype=np.int64)  # each label's row in the reference
        if own:
            held[np.flatnonzero(known)[part]] = np.arange(len(part))
        distances = self.fit(reference[part])
        inside = distances(reference[part], np.arange(len(part)))
        scores[known] = conformal(inside, distances(observed[known], held[known]), own=own)
        return Scores(scores)

    def fit(self, reference: np.ndarray) -> Distances:
        """Return the function that computes distances from the reference's features (M, K)."""
        raise NotImplementedError

    def _reference(self, labels: LabelTable, context: Context) -> np.ndarray:
        given = context.reference if self.from_context else self.given
        if isinstance(given, LabelTable):
            trusted = given if given.images is not None else given.with_images(labels.images)
            # Unreadable images of the reference are skipped: they are no label's reason.
            context = replace(context, on_error="null")
            ((found,), _) = observe([self], trusted.drop_columns("truth"), context)
            found = found[np.isfinite(found).all(axis=1)]
        else:
            found = np.asarray(given, dtype=np.float32)
        if found.ndim != 2:
            raise InputError(
                f"measure {self.name!r}: the reference is a {type(given).__name__} of shape "
                f"{found.shape}; expected a LabelTable or (M, K) features."
            )
        return found


def label_features(batch: Batch, model: GroundingModel, kind: str) -> Tensor:
    """Return features of B labels, (B, K) float32, of unit length except "joint" and "label".

    "joint": [REG] state, which depends on image and expression but not the box; "region": mean of
    the last tapped level's patches inside the label's box; "text": text token at the end of the
    expression; "image": [CLS] of the last tapped level; "label": region and text, each of unit
    length, concatenated.
    """
    if kind == "joint":
        return batch.state(model)
    if kind == "text":
        features, mask = batch.text(model)
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        last = (mask * places).amax(1).clamp(min=1) - 1
        return F.normalize(
            features[torch.arange(len(last), device=last.device), last].float(), dim=1
        )
    width = model.backbone.width if model.backbone.visual == "levels" else None
    features = batch.chunk.encoded(model)[0][batch.index(model)]  # (B, 1 + P, F)
    features = features.float() if width is None else features[..., -width:].float()
    if kind == "image":
        return F.normalize(features[:, 0], dim=1)
    share = patch_coverage(batch.target(model), model.backbone.grid) * real_patches(batch, model)
    region = F.normalize(torch.einsum("bp,bpf->bf", share, features[:, 1:]), dim=1)
    if kind == "region":
        return region
    return torch.cat([region, label_features(batch, model, "text")], dim=1)


_PER_CLUSTER = 20  # reference labels needed per cluster
_LEAST_SHARE = 0.1  # of the mean cluster size, below which a cluster counts as outliers


class NearestNeighbours(FeatureDistance):
    """Distance to the k-th nearest neighbour among the reference's unit-length features.

    d = ‖f/‖f‖ − g_(k)/‖g_(k)‖‖, Sun et al., ICML 2022.

    Cost: one pass of the model, then N × M distances.

    Args:
        k: rank of the neighbour.
    """

    k: Annotated[int, (1, None)] = 10
    max_reference: Annotated[int, (2, None)] = 20_000
    name: str = "knn"

    def fit(self, reference: np.ndarray) -> Distances:
        """Return the distance to the k-th nearest other row of the reference."""
        neighbors = extra("sklearn.neighbors", "nearest neighbours")
        k = min(self.k, len(reference) - 1)
        index = neighbors.NearestNeighbors(n_neighbors=k + 1).fit(_unit(reference))

        def distances(values: np.ndarray, held: np.ndarray) -> np.ndarray:
            near, found = index.kneighbors(_unit(values))  # (N, k + 1), maybe with the row itself
            return np.where((found == held[:, None]).any(axis=1), near[:, -1], near[:, -2])

        return distances


class Mahalanobis(FeatureDistance):
    """Mahalanobis distance from the reference's mean.

    d² = (f − μ)ᵀ Σ⁻¹ (f − μ), Σ shrunk after Ledoit and Wolf (2004); Lee et al., NeurIPS 2018, with
    one class.

    Cost: one pass of the model, then O(N K²).
    """

    max_reference: Annotated[int, (2, None)] = 100_000
    name: str = "mahalanobis"

    def fit(self, reference: np.ndarray) -> Distances:
        """Return the squared distance from the mean."""
        fitted = extra("sklearn.covariance", "the Mahalanobis distance").LedoitWolf().fit(reference)
        return lambda values, held: fitted.mahalanobis(values)


class KernelDensity(FeatureDistance):
    """Gaussian kernel density of the reference at the label's feature.

    p(f) = 1/M Σ_j N(f; g_j, h² I) in the first principal components, leaving out a label's own
    kernel; r = share of the reference with at most this density. Parzen's estimator (1962).

    Cost: one pass of the model, then N × M kernels.

    Args:
        bandwidth: h in standard deviations of the components; None uses Scott's M^(−1/(d+4)).
        components: number d of principal components.
    """

    bandwidth: Annotated[float | None, (ABOVE_ZERO, None)] = None
    components: Annotated[int, (1, None)] = 8
    max_reference: Annotated[int, (2, None)] = 5_000
    name: str = "kde"

    def fit(self, reference: np.ndarray) -> Distances:
        """Return the negative log density, leaving out own kernels."""
        neighbors = extra("sklearn.neighbors", "kernel density")
        transform, reference = _components(reference, self.components)
        m, d = reference.shape
        bandwidth = self.bandwidth or m ** (-1 / (d + 4))
        fitted = neighbors.KernelDensity(bandwidth=bandwidth).fit(reference)
        own = -np.log(m) - d * (np.log(bandwidth) + np.log(2 * np.pi) / 2)  # log of own share

        def distances(values: np.ndarray, held: np.ndarray) -> np.ndarray:
            density = fitted.score_samples(transform(values))
            return -np.where(held >= 0, _less(density, own), density)

        return distances


class Clusters(FeatureDistance):
    """Distance to the nearest cluster centre, in radii of that cluster.

    k-means on the reference's principal components (unit variance); d = min_c ‖f − μ_c‖ / ρ_c,
    ρ_c the root mean square distance of the cluster's members. Clusters of less than a tenth of the
    mean size are outliers, not centres.

    Cost: one pass of the model, then k-means.

    Args:
        clusters: number of clusters, fewer if that would leave under 20 labels each.
        components: number of principal components.
        seed: seed of the subsampling and of k-means.
    """

    clusters: Annotated[int, (1, None)] = 32
    components: Annotated[int, (1, None)] = 16
    max_reference: Annotated[int, (2, None)] = 100_000
    name: str = "clusters"

    def fit(self, reference: np.ndarray) -> Distances:
        """Return the distance to the nearest centre in radii of its cluster."""
        cluster = extra("sklearn.cluster", "clusters")
        transform, reference = _components(reference, self.components)
        count = max(1, min(self.clusters, len(reference) // _PER_CLUSTER))
        fitted = cluster.KMeans(count, n_init=4, random_state=self.seed).fit(reference)
        size = np.bincount(fitted.labels_, minlength=count)
        # Outliers may have become centres of their own, at distance 0 from themselves.
        real = size >= _LEAST_SHARE * len(reference) / count
        nearest = fitted.transform(reference)[np.arange(len(reference)), fitted.labels_]
        radius = np.sqrt(np.bincount(fitted.labels_, nearest**2, count) / size)[real]
        radius = np.maximum(radius, np.median(radius) * 1e-3 + 1e-12)  # members may all be equal
        return lambda values, held: (fitted.transform(transform(values))[:, real] / radius).min(1)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _components(
    reference: np.ndarray, count: int
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Return the map to the reference's whitened principal components, and the mapped reference."""
    count = min(count, len(reference) - 1, reference.shape[1])
    decomposition = extra("sklearn.decomposition", "principal components")
    fitted = decomposition.PCA(count, whiten=True, svd_solver="full").fit(reference)
    return fitted.transform, fitted.transform(reference)


def _less(log_density: np.ndarray, own: float) -> np.ndarray:
    """Return log(e^log_density − e^own), the log density without a label's own kernel."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return log_density + np.log(np.maximum(-np.expm1(own - log_density), 0))
