"""Finished students measured on evaluation sets that no trial has seen."""
