"""Compilation of a config without a GPU: launches, binaries, resources, instructions."""
