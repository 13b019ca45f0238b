"""Inside a running sweep: prepares, brings the slots up, lets Ray Tune ask for trials, keeps the
ledger."""
