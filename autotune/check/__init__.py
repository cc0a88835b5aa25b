"""Release checks: the tables that are shipped, against another Triton, ptxas or ROCm, with no GPU."""
