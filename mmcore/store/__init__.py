"""What lies on a disk: model folders, checkpoints, and a run's folder; every file read without trust."""
