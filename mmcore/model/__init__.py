"""The joint model: encoders, one shared network, and a decoder for each task around one diffusion process."""
