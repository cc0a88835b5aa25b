"""Triton's interpreter, put right, watched and counted."""
