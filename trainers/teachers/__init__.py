"""What the teacher says of a batch: asked now, or read from its cache."""
