"""A sweep as a Ray job: what is shipped, who drives it there, how it is followed and stopped."""
