from autotune.kernels import publish

publish(__name__)
