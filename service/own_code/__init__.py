"""Divergences of the user's own: held to the contract of the shipped ones, kept with the sweep."""
