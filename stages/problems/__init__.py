"""The ladder's problems, shown: each a small scenario that runs with real processes, threads and sockets.

What people write first is run as they write it, in a process of its own; what the next stage does about it is shown
with the real stage. `registry` knows them all; `eventflow demo problem` is their command.
"""
