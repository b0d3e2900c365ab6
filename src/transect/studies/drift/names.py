"""What the drift study measures, and where it draws its one line."""

TRANSPORT = ("sinkhorn", "wasserstein", "sliced", "max_sliced", "bures", "centroid")
SIMPLE = ("cosine", "euclidean", "paired_displacement", "plan")
LAYERS = (
    *(
        "participation_ratio",
        "effective_rank",
        "stable_rank",
        "spectral_entropy",
        "condition_number",
        "top_variance",
    ),
    *("anisotropy", "mean_norm", "norm_entropy", "outlier_dimensions", "twonn"),
)
#: A change of effective rank by less than this factor, with its whole interval, counts as stable.
STABLE = 1.10
#: Neighbour ranks at which the intrinsic dimension is read.
SCALES = (1, 4, 16, 64)
#: Read on all tokens, sinks beyond position 0 included.
OUTLIERS = ("massive_tokens", "outlier_tokens", "outlier_dimensions")
#: Cheap enough for 99 permutations at every layer.
TESTED = ("bures", "centroid")
#: The production configuration of the program that this study replaces: its model, data and sizes.
PRESETS = {
    "otexplorer": {
        "model": "gpt2-large",
        "texts": "gsm8k:2000",
        "max_length": 256,
        "batch_tokens": 4 * 256,
        "pca": 50,
    }
}
