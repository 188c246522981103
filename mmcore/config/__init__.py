"""Configuration: a TOML file, checked in full before anything heavy is built, and what it resolves to."""

from mmcore.config.resolve import Setup, configured, load, tables
from mmcore.config.schema import Config, ModelOptions, Part, SamplingOptions, TaskPart

__all__ = ["Config", "ModelOptions", "Part", "SamplingOptions", "Setup", "TaskPart", "configured", "load", "tables"]
