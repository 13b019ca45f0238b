"""How one trial trains: losses, teachers, tasks, the loop. Importing it does not import torch."""
