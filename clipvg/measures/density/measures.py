"""Feature density and distance: k-NN, Mahalanobis, kernel density, clusters.

All four score a label by how far its feature lies from a reference, and give the share of the
reference that lies at least as far out (`conformal`). The reference is a table of trusted labels,
an array of features, or, by default, the labels themselves; `FeatureDistance` has the options that
they share: features, reference, max_reference, seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipvg.measures.common.scales import extra, positive
from clipvg.measures.density.reference import FeatureDistance

_PER_CLUSTER = 20  # labels of the reference that a cluster needs
_LEAST_SHARE = 0.1  # of the mean size, below which a cluster is no centre


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestNeighbours(FeatureDistance):
    """Distance to the k-th nearest neighbour among the reference's features of length 1.

    d = ‖f/‖f‖ − g_(k)/‖g_(k)‖‖, Sun et al., ICML 2022; r = share of the reference whose own k-th
    neighbour is at least as far.

    Cost: one pass of the model, then N × M distances. Range (0, 1]. Requires images (and reference
    with ``reference="context"``), scikit-learn.

    Args:
        model: grounding model that gives the features.
        k: which neighbour.
        name: name of the score column.
    """

    k: int = 10
    max_reference: int = 20_000
    name: str = "knn"

    def __post_init__(self) -> None:
        positive("k", self.k)
        super().__post_init__()

    def distances(
        self, reference: np.ndarray, values: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return distances to the k-th nearest other row of the reference."""
        neighbors = extra("sklearn.neighbors", "nearest neighbours")
        reference, values = _unit(reference), _unit(values)
        k = min(self.k, len(reference) - 1)
        index = neighbors.NearestNeighbors(n_neighbors=k + 1).fit(reference)
        distances, found = index.kneighbors(reference)
        inside = _without_self(distances, found, np.arange(len(reference)))
        distances, found = index.kneighbors(values)
        return inside, _without_self(distances, found, held)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mahalanobis(FeatureDistance):
    """Mahalanobis distance from the reference's mean.

    d² = (f − μ)ᵀ Σ⁻¹ (f − μ), Σ shrunk after Ledoit and Wolf (2004); Lee et al., NeurIPS 2018, with
    one class. r = share of the reference that lies at least as far out.

    Cost: one pass of the model, then O(N K²). Range [0, 1]. Requires images (and reference with
    ``reference="context"``), scikit-learn.

    Args:
        model: grounding model that gives the features.
        name: name of the score column.
    """

    max_reference: int = 100_000
    name: str = "mahalanobis"

    def distances(
        self, reference: np.ndarray, values: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return squared distances from the mean."""
        fitted = extra("sklearn.covariance", "the Mahalanobis distance").LedoitWolf().fit(reference)
        return fitted.mahalanobis(reference), fitted.mahalanobis(values)


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelDensity(FeatureDistance):
    """Gaussian kernel density of the reference at the label's feature.

    p(f) = 1/M Σ_j N(f; g_j, h² I) in the first principal components, a label's own kernel left
    out; r = share of the reference with at most this density. Parzen's estimator (1962).

    Cost: one pass of the model, then N × M kernels. Range [0, 1]. Requires images (and reference
    with ``reference="context"``), scikit-learn.

    Args:
        model: grounding model that gives the features.
        bandwidth: h in deviations of the components; None takes Scott's M^(−1/(d+4)).
        components: principal components d.
        name: name of the score column.
    """

    bandwidth: float | None = None
    components: int = 8
    max_reference: int = 5_000
    name: str = "kde"

    def __post_init__(self) -> None:
        positive("components", self.components)
        if self.bandwidth is not None:
            positive("bandwidth", self.bandwidth)
        super().__post_init__()

    def distances(
        self, reference: np.ndarray, values: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return minus the log density, own kernels left out."""
        neighbors = extra("sklearn.neighbors", "kernel density")
        reference, values = _components(reference, values, self.components)
        m, d = reference.shape
        bandwidth = self.bandwidth or m ** (-1 / (d + 4))
        fitted = neighbors.KernelDensity(bandwidth=bandwidth).fit(reference)
        own = -np.log(m) - d * (np.log(bandwidth) + np.log(2 * np.pi) / 2)  # log of own share
        inside, outside = fitted.score_samples(reference), fitted.score_samples(values)
        return -_less(inside, own), -np.where(held >= 0, _less(outside, own), outside)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters(FeatureDistance):
    """Distance to the nearest cluster centre, in radii of that cluster.

    k-means on the reference's principal components (deviation 1 each); d = min_c ‖f − μ_c‖ / ρ_c,
    ρ_c the root mean square distance of the cluster's members; r = share of the reference that lies
    at least as far out. Clusters of less than a tenth of the mean size are outliers, not centres.

    Cost: one pass of the model, then k-means. Range [0, 1]. Requires images (and reference with
    ``reference="context"``), scikit-learn.

    Args:
        model: grounding model that gives the features.
        clusters: number of clusters, fewer where that would leave under 20 labels each.
        components: principal components that are kept.
        seed: of k-means too.
        name: name of the score column.
    """

    clusters: int = 32
    components: int = 16
    max_reference: int = 100_000
    name: str = "clusters"

    def __post_init__(self) -> None:
        positive("clusters", self.clusters)
        positive("components", self.components)
        super().__post_init__()

    def distances(
        self, reference: np.ndarray, values: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return distances to the nearest centre in radii of its cluster."""
        cluster = extra("sklearn.cluster", "clusters")
        reference, values = _components(reference, values, self.components)
        count = max(1, min(self.clusters, len(reference) // _PER_CLUSTER))
        fitted = cluster.KMeans(count, n_init=4, random_state=self.seed).fit(reference)
        size = np.bincount(fitted.labels_, minlength=count)
        # Outliers may have become centres of their own, at distance 0 from themselves.
        real = size >= _LEAST_SHARE * len(reference) / count
        inside, outside = fitted.transform(reference), fitted.transform(values)  # (M, clusters)
        nearest = inside[np.arange(len(reference)), fitted.labels_]
        radius = np.sqrt(np.bincount(fitted.labels_, nearest**2, count) / size)[real]
        radius = np.maximum(radius, np.median(radius) * 1e-3 + 1e-12)  # all members equal
        return (inside[:, real] / radius).min(1), (outside[:, real] / radius).min(1)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _components(
    reference: np.ndarray, values: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """First principal components of the reference, each of deviation 1, of both."""
    count = min(count, len(reference) - 1, reference.shape[1])
    decomposition = extra("sklearn.decomposition", "principal components")
    fitted = decomposition.PCA(count, whiten=True, svd_solver="full").fit(reference)
    return fitted.transform(reference), fitted.transform(values)


def _without_self(distances: np.ndarray, found: np.ndarray, held: np.ndarray) -> np.ndarray:
    """k-th distance of (N, k + 1), a row's own place in the reference left out."""
    is_self = (found == held[:, None]).any(axis=1)
    return np.where(is_self, distances[:, -1], distances[:, -2])


def _less(log_density: np.ndarray, own: float) -> np.ndarray:
    """log(e^a − e^own), the density without a label's own kernel."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return log_density + np.log(np.maximum(-np.expm1(own - log_density), 0))
