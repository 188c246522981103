"""What the core itself offers, through the same hooks as any plugin."""

from mmcore.hooks import Offer, hookimpl


@hookimpl
def mmcore_backbones() -> list[Offer]:
    return [
        Offer(
            "transformer", "mmcore.model.backbones.transformer:Transformer", "a transformer over patches of the space"
        ),
        Offer("mlp", "mmcore.model.backbones.mlp:Mlp", "a residual perceptron over the whole of a small space"),
    ]


@hookimpl
def mmcore_schedules() -> list[Offer]:
    module = "mmcore.process.schedule"
    return [
        Offer("cosine", f"{module}:cosine", "DDPM's cosine schedule on the aggregate"),
        Offer("linear", f"{module}:linear", "DDPM's linear schedule on the aggregate"),
        Offer("paper", f"{module}:paper", "the article's a_t with the cosine schedule's SNR"),
        Offer("paper-steps", f"{module}:paper_steps", "the article's a_t with per-step weights"),
    ]


@hookimpl
def mmcore_samplers() -> list[Offer]:
    module = "mmcore.sampling.samplers"
    return [
        Offer("ddim", f"{module}:Ddim", "first order, from deterministic (eta 0) to ancestral (eta 1)"),
        Offer("ancestral", f"{module}:Ancestral", "DDPM's draws from the posterior"),
        Offer("2m", f"{module}:Multistep", "DPM-Solver++(2M): second order, one call of the network a step"),
        Offer("heun", f"{module}:Heun", "second order, two calls of the network a step"),
    ]


@hookimpl
def mmcore_guidances() -> list[Offer]:
    return [Offer("classifier-free", "mmcore.sampling.guidance:ClassifierFree", "away from what is answered without")]


@hookimpl
def mmcore_sources() -> list[Offer]:
    files = "mmcore.data.sources"
    return [
        Offer("digits", "mmcore.data.sources.digits:Digits", "scikit-learn's 1,797 handwritten digits, 8x8"),
        Offer("npz", f"{files}.npz:Npz", "the arrays of a NumPy .npz file"),
        Offer("idx", f"{files}.idx:Idx", "MNIST's IDX files, gzipped or not"),
        Offer("table", f"{files}.manifest:Manifest", "a CSV, JSON-lines or Parquet table of values and paths"),
        Offer("folder", f"{files}.folder:Folder", "parallel folders of files that share their stems"),
        Offer(
            "imagefolder", f"{files}.imagefolder:ImageFolder", "a folder of images for each class, or a metadata.csv"
        ),
        Offer("shards", f"{files}.shards:Shards", "tar files in WebDataset's layout"),
        Offer("datasets", f"{files}.saved:Saved", "Hugging Face datasets saved on disk"),
        Offer(
            "datasets-stream",
            f"{files}.streamed:files",
            "a stream of Parquet, JSON, CSV or image files, by Hugging Face datasets",
        ),
    ]


@hookimpl
def mmcore_transforms() -> list[Offer]:
    module = "mmcore.data.transforms"
    return [
        Offer("resize", f"{module}:Resize", "images and masks at one size, masks by the nearest pixel"),
        Offer("crop", f"{module}:Crop", "the middle of images and masks, or a random place"),
        Offer("flip", f"{module}:Flip", "images and masks mirrored at random"),
        Offer("threshold", f"{module}:Threshold", "a mask of 0 and 1 out of grey values or an alpha"),
    ]


@hookimpl
def mmcore_trackers() -> list[Offer]:
    services = "mmcore.training.services"
    return [
        Offer("tensorboard", "mmcore.training.trackers:TensorBoard", "curves and pictures as TensorBoard's events"),
        Offer("trackio", f"{services}:Trackio", "curves and pictures in trackio, on this machine or in a Space"),
        Offer("wandb", f"{services}:Wandb", "curves and pictures in W&B, online or for wandb sync"),
        Offer("mlflow", f"{services}:MLflow", "curves, pictures and parameters in MLflow"),
    ]
