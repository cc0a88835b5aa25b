"""Estimates of a serving step: the kernel calls of a workload, timed by the cost model, turned into throughput."""
