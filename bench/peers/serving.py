"""The peers' side of the conversation with bench/peers.js: a JSON object a line, over stdin and stdout.

First the process says who it is. Then it answers each request:

    {"op": "prepare", "scenario": {...}, "warmup": n}   builds the scenario and runs it n times
                                                         -> {"value": the number, or numbers, of the last run, if it has any}
    {"op": "block", "trials": n, "inner": m, "untimed": u}  runs it u times, then n trials of m runs each
                                                         -> {"timings_ns": [time of a run, for each trial]}
    {"op": "drop"}                                       forgets the scenario and its memory -> {}

An answer with "error" is a sentence. The process ends with stdin.
"""

import ctypes
import gc
import json
import os
import sys
import time


def serve(hello, prepare):
    """Serves until stdin ends.

    `prepare(scenario)` returns a function without arguments, one run, whose number or list of numbers is told; or that and a function
    that makes them of what the run returned.
    """
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(content):
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer(hello)
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["op"] == "block":
                answer({"timings_ns": time_trials(run, request)})
                continue
            run, value, numbers_of = None, None, None  # before the next one is built: two large models need not fit
            gc.collect()
            if request["op"] == "prepare":
                prepared = prepare(request["scenario"])
                run, numbers_of = prepared if isinstance(prepared, tuple) else (prepared, lambda value: value)
                del prepared
                for _ in range(request["warmup"]):
                    value = run()
                value = numbers_of(value)
            answer({"value": value} if isinstance(value, (float, list)) else {})
        except Exception as error:  # the session goes on without this scenario
            answer({"error": f"{type(error).__name__}: {error}"})


def time_trials(run, request):
    """Nanoseconds of a run, for each trial. As in `timeit`, the garbage collector waits meanwhile."""
    inner, clock = request["inner"], time.perf_counter_ns
    timings = []
    gc.disable()
    try:
        for _ in range(request["untimed"]):
            run()
        for _ in range(request["trials"]):
            start = clock()
            for _ in range(inner):
                run()
            timings.append((clock() - start) / inner)
    finally:
        gc.enable()
    return timings


def batch_of(batch, seq, vocab_size):
    """Ids [batch][seq]: (b*S + s) mod vocab, and as targets the same shifted by one, as in every language."""
    def rows(shift):
        return [[(b * seq + s + shift) % vocab_size for s in range(seq)] for b in range(batch)]
    return rows(0), rows(1)


def openblas_in_use(skip="\0"):
    """(core type, threads) of the OpenBLAS in this process, as it says itself; (None, None) where it can't be asked.

    `skip`: part of the path of one that isn't meant.
    """
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "openblas" in line}
    except OSError:
        return None, None
    for library in (ctypes.CDLL(path) for path in sorted(paths) if path.endswith(".so") and skip not in path):
        # The builds inside Python packages have names of their own.
        for name in ("openblas_get_{}", "scipy_openblas_get_{}64_", "scipy_openblas_get_{}", "openblas_get_{}64_"):
            if hasattr(library, name.format("corename")):
                core_name = getattr(library, name.format("corename"))
                core_name.restype = ctypes.c_char_p
                return core_name().decode(), getattr(library, name.format("num_threads"))()
    return None, None
