"""A recorded trial trained again, here or in a container, or carried elsewhere."""
