"""The tasks: a table, and a folder for each with the same file names."""
