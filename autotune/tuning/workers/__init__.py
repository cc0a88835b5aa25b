"""Processes that answer calls: own process group, wall timeout, memory limit. They import no Triton."""
