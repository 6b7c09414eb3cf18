"""Example package: trained networks as token sequences, and a model that reads and writes them.

No search uses it. It makes a zoo of small networks, turns them into tokens and exactly back, and trains
a variational transformer on them; its commands are zoo, train, eval and sample.
"""
