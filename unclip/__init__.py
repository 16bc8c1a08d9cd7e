import os

# How many rounds a thread spins for the others before it sleeps; read when torch is loaded. Of
# OpenMP's own 300,000 each takes a core for milliseconds, which another program may have taken
# from the very thread that is waited for.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
