"""The API server: our resources, their schemas, and the ``Cluster`` port on top of them.

What comes in is parsed here (``parse``), what goes out is rendered here (``render``); no ``dict`` leaves this package.
Kopf delivers LocalModels and WorkerPools (``watched``), own reflectors keep everything that can vanish without us
(``reflector``): Kopf's memory keeps ghosts of objects that were deleted during a gap of its watch.
"""
