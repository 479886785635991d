"""Feature density and distance: k-NN, Mahalanobis, kernel density, clusters.

All four score a label by how far its feature lies from a reference: r is the share of the
reference that lies at least as far out (`FeatureDistance`, which has the options that they share).
They need scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipvg.measures.common.options import at_least, positive
from clipvg.measures.common.scales import extra
from clipvg.measures.density.reference import Distances, FeatureDistance

_PER_CLUSTER = 20  # labels of the reference that a cluster needs
_LEAST_SHARE = 0.1  # of the mean size, below which a cluster is no centre


class NearestNeighbours(FeatureDistance):
    """Distance to the k-th nearest neighbour among the reference's features of length 1.

    d = ‖f/‖f‖ − g_(k)/‖g_(k)‖‖, Sun et al., ICML 2022.

    Cost: one pass of the model, then N × M distances.

    Args:
        k: which neighbour.
    """

    k: int = positive(10)
    max_reference: int = at_least(20_000, 2)
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

    max_reference: int = at_least(100_000, 2)
    name: str = "mahalanobis"

    def fit(self, reference: np.ndarray) -> Distances:
        """Return the squared distance from the mean."""
        fitted = extra("sklearn.covariance", "the Mahalanobis distance").LedoitWolf().fit(reference)
        return lambda values, held: fitted.mahalanobis(values)


class KernelDensity(FeatureDistance):
    """Gaussian kernel density of the reference at the label's feature.

    p(f) = 1/M Σ_j N(f; g_j, h² I) in the first principal components, a label's own kernel left
    out; r = share of the reference with at most this density. Parzen's estimator (1962).

    Cost: one pass of the model, then N × M kernels.

    Args:
        bandwidth: h in deviations of the components; None takes Scott's M^(−1/(d+4)).
        components: principal components d.
    """

    bandwidth: float | None = positive(None)
    components: int = positive(8)
    max_reference: int = at_least(5_000, 2)
    name: str = "kde"

    def fit(self, reference: np.ndarray) -> Distances:
        """Return minus the log density, own kernels left out."""
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

    k-means on the reference's principal components (deviation 1 each); d = min_c ‖f − μ_c‖ / ρ_c,
    ρ_c the root mean square distance of the cluster's members. Clusters of less than a tenth of the
    mean size are outliers, not centres.

    Cost: one pass of the model, then k-means.

    Args:
        clusters: number of clusters, fewer where that would leave under 20 labels each.
        components: principal components that are kept.
        seed: of k-means too.
    """

    clusters: int = positive(32)
    components: int = positive(16)
    max_reference: int = at_least(100_000, 2)
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
        radius = np.maximum(radius, np.median(radius) * 1e-3 + 1e-12)  # all members equal
        return lambda values, held: (fitted.transform(transform(values))[:, real] / radius).min(1)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _components(
    reference: np.ndarray, count: int
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Return the map to the reference's first principal components, deviation 1 each, and its."""
    count = min(count, len(reference) - 1, reference.shape[1])
    decomposition = extra("sklearn.decomposition", "principal components")
    fitted = decomposition.PCA(count, whiten=True, svd_solver="full").fit(reference)
    return fitted.transform, fitted.transform(reference)


def _less(log_density: np.ndarray, own: float) -> np.ndarray:
    """log(e^a − e^own), the density without a label's own kernel."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return log_density + np.log(np.maximum(-np.expm1(own - log_density), 0))
