"""The detectors: one file each, in the folder of the link of the loop that it watches."""
