"""Start one command from a small process and write what it used: `launch.py FD COMMAND…`.

Linux counts the memory of the process that starts a command as the command's own peak (exec records the old image in
ru_maxrss). Started from here, that is 10 MiB instead of the memory of the benchmark.
"""

import os
import sys
import time

figures = int(sys.argv[1])
os.set_inheritable(figures, False)
began = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
wall_s = time.perf_counter() - began
code = os.waitstatus_to_exitcode(status)
os.write(figures, f"{code} {wall_s} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss}".encode())
