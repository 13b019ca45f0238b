"""The students of chosen trials on evaluation sets, which report and never select."""
