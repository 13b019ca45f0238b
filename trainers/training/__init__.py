"""One trial: the loop, its batches, the student with its loss, checkpoints."""
