"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [
        Offer("latent", "mmcore_diffusers.latent:LatentModality", "Images as the latents of a pretrained autoencoder")
    ]


@hookimpl
def mmcore_embedders() -> list[Offer]:
    return [
        Offer(
            "latent",
            "mmcore_diffusers.embedder:LatentEmbedder",
            "Images to the latents of a pretrained autoencoder, from a local folder",
        )
    ]


@hookimpl
def mmcore_backbones() -> list[Offer]:
    module = "mmcore_diffusers.network"
    return [
        Offer("diffusers-dit", f"{module}:Dit", "diffusers' DiT, new or with pretrained weights of a local folder"),
        Offer("diffusers-unet", f"{module}:Unet", "diffusers' UNet, new or with pretrained weights of a local folder"),
    ]
