"""The ladder: the same work done by a loop, threads, processes, an event loop and so on, one module each."""
