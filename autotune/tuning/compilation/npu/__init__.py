"""Plans of kernels for Huawei's NPUs: front end, compilers, and what is read from their output."""
