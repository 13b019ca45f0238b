"""Who runs a sweep, records it and reads it back: the command line, the driver, tracking and queries."""
