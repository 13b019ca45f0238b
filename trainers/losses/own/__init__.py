"""A divergence of the user's own: loaded by name, and the contract that it is held to."""
