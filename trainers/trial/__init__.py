"""What a trial is told and what it reports. No torch."""
