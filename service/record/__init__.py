"""The record in MLflow: what is written, what waits while a server is away, what is read back."""
