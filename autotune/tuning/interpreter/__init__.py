"""Triton's interpreter: corrections, a memory sanitizer, and counts of what a launch does."""
