"""What the drift study measures, and where it draws its one line."""

TRANSPORT = ("sinkhorn", "wasserstein", "sliced", "max_sliced", "bures", "centroid")
SIMPLE = ("cosine", "euclidean", "paired_displacement", "plan")
LAYERS = (
    *("participation_ratio", "effective_rank", "stable_rank", "spectral_entropy", "condition_number", "top_variance"),
    *("anisotropy", "mean_norm", "norm_entropy", "outlier_dimensions", "outlier_tokens", "massive_tokens", "twonn"),
)
#: A change of effective rank by less than this factor, with its whole interval, counts as stable.
STABLE = 1.10
