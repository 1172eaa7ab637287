"""The reports of all runs in a folder, live."""
