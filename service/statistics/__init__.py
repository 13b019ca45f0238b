"""What numbers allow to say: intervals, paired tests, corrections for many of them, ranks, where
two curves cross, how many seeds are needed. Pure: numbers in, frozen values out."""
