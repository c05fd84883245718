"""Devices: named pieces of hardware. One file each, exporting `DEVICE`."""
