"""The joint model: encoders, one denoising network, and a decoder for each task around one diffusion process."""
