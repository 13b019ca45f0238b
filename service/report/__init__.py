"""A sweep's report: what the record says as a page to be read. Pure but for its pictures."""
