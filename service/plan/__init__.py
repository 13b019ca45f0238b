"""What a sweep will try and take: its trials, cost and cautions, and where its files are stored."""
