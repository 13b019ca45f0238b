"""How one trial trains: losses, teachers, tasks and the loop. Importing this package does not import torch."""
