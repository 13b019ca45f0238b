"""Who runs a sweep, records it and reads it back: command line, driver, tracking, queries."""
