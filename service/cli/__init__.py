"""The command line: each command reads its arguments, calls one action, prints what it returns."""
