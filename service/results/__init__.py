"""What the record says: best, compare and sentences. Pure."""
