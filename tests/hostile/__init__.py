"""Hostile and odd inputs, generated from a seed, and what every command has to do with them.

``good`` makes what is not hostile; ``rasters``, ``containers``, ``vectors``, ``texts``, ``folders`` and ``weights``
make what is; ``cases`` says which input goes through which command, ``judge`` what may come out, ``runner`` runs them.
"""
