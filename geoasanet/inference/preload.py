"""Imported once by the process whose forks are the workers on a CPU: every module that these import sooner or later."""

from geoasanet.garbage import own_process, uncollected

own_process()  # a search touches every object: the workers' copies of their memory would all become their own
with uncollected():
    import segmentation_models_pytorch  # noqa: F401
    import timm  # noqa: F401

    import geoasanet.inference.workers
    import geoasanet.models.fusedblock  # noqa: F401
