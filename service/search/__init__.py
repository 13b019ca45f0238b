"""Which trial is next and which has to end: the Optuna study and early stopping."""
