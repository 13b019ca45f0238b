"""Language models: instruction data, causal models, and their evaluation."""
