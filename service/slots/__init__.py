"""Standing workers and who leases them: the board, the slots, a trial's lease, its retries."""
