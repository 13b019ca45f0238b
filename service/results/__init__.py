"""What the record says: best, compare, statistics, sentences and pictures. Pure."""
