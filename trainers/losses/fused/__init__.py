"""The losses without logits [N, V]: value and gradient, chunk by chunk."""
