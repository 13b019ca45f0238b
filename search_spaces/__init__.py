"""What may be tried: domains, conditional search spaces and samplers. Neither torch nor MLflow."""
