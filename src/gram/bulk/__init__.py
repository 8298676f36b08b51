"""Scoring in bulk: rows cut into shards, shards scored by processes on Ray, a folder of finished shards.

``shards`` says which rows lie together, ``folder`` what stands on the disk, ``pieces`` what is asked again
when a process dies, ``asker`` what a process does, ``cluster`` alone knows Ray, and ``job`` is
the way through them. Knows no kind of model.
"""
