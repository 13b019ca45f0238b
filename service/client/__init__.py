"""A service of kd-sweep as its client asks it, over HTTP."""
