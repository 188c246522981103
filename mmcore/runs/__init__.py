"""What lies in a run's folder: checkpoints that are whole or not there, and files read without trust."""
