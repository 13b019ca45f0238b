"""What the record says: best, compare, sentences and pictures. Pure."""
