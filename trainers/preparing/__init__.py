"""What all trials of a sweep share, made once."""
