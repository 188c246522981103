"""Public functions and the command line called at random: what is asked is refused in one line before any work, or answered by the laws."""
