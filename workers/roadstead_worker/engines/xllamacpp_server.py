"""``python -m roadstead_worker.engines.xllamacpp_server``: llama.cpp's HTTP server out of the ``xllamacpp`` wheel.

For machines without a ``llama-server``. Takes the few settings a replica needs, refuses others, and prints
``listening on <address>`` once the model is loaded. Two things differ from a usual program, both measured: SIGTERM
and SIGINT are blocked *before* the import, because the library's own threads would otherwise take them, and the
process leaves by ``os._exit``, because its destructors wait for streams. Whoever ends it must drain it first.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence

from roadstead_worker.engines.base import ENGINE_KEY_VARIABLE

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})
_FLUSH_SECONDS = 10
_EVERY_LAYER = 999
_CACHE_TYPES = ("f16", "q8_0", "q4_0")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="xllamacpp_server", allow_abbrev=False)
    parser.add_argument("--model", required=True, help="path of the GGUF file (of the first one, when split)")
    parser.add_argument("--alias", required=True, help="the name it serves the model under")
    parser.add_argument("--context", required=True, type=int, help="tokens, the total over all sequences")
    parser.add_argument("--parallel", required=True, type=int, help="sequences served at the same time")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default=0, type=int, help="0: any free one")
    parser.add_argument("--no-mmap", action="store_true", help="read the weights instead of mapping their file")
    parser.add_argument("--devices", default=0, type=int, help="accelerators to use, of those that are visible")
    parser.add_argument("--cache-type-k", default="f16", choices=_CACHE_TYPES, help="what keys are kept in")
    parser.add_argument("--cache-type-v", default="f16", choices=_CACHE_TYPES, help="what values are kept in")
    parser.add_argument("--check-tensors", action="store_true", help="refuse tensors with invalid values (slow)")
    return parser.parse_args(argv)


def flush_log(library: str) -> bool:
    """Waits until llama.cpp has written its log. False where ``library`` no longer offers that.

    It logs from a thread that no way out of the process waits for, so the reason why a model cannot be loaded would
    now and then be lost, or cut by a line of ours. The wheel has no Python function for it; the two symbols are those
    of ``common/log.h``.
    """
    symbols = ctypes.CDLL(library)
    try:
        log, flush = symbols["_Z15common_log_mainv"], symbols["_Z16common_log_flushP10common_log"]
    except AttributeError:
        return False
    log.restype, flush.argtypes, flush.restype = ctypes.c_void_p, [ctypes.c_void_p], None
    flush(log())
    return True


def main(argv: Sequence[str] | None = None) -> None:
    chosen = _arguments(sys.argv[1:] if argv is None else argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    import xllamacpp  # noqa: PLC0415 - after the signals are blocked, see above

    parameters = xllamacpp.CommonParams()
    parameters.model.path = chosen.model
    parameters.model_alias = {chosen.alias}
    parameters.hostnames = [chosen.host]
    parameters.port = chosen.port
    parameters.n_ctx = chosen.context
    parameters.n_parallel = chosen.parallel
    parameters.cpuparams.n_threads = chosen.threads
    parameters.cpuparams_batch.n_threads = chosen.threads
    parameters.cache_type_k = xllamacpp.ggml_type[f"GGML_TYPE_{chosen.cache_type_k.upper()}"]
    parameters.cache_type_v = xllamacpp.ggml_type[f"GGML_TYPE_{chosen.cache_type_v.upper()}"]
    parameters.fit_params = False  # it would shrink the context silently
    if chosen.devices:
        parameters.n_gpu_layers = _EVERY_LAYER
        equal = [1.0] * chosen.devices
        parameters.tensor_split = equal + [0.0] * (len(parameters.tensor_split) - chosen.devices)
    else:
        parameters.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE
        parameters.main_gpu = -1  # none: with no layer on it, one would still take memory of it to compute in
    modes = xllamacpp.llama_load_mode
    parameters.load_mode = modes.LLAMA_LOAD_MODE_NONE if chosen.no_mmap else modes.LLAMA_LOAD_MODE_MMAP
    parameters.cache_ram_mib = 0
    parameters.check_tensors = chosen.check_tensors
    parameters.ui = False
    parameters.offline = True
    parameters.endpoint_metrics = True
    parameters.use_jinja = True
    parameters.sse_ping_interval = 1
    key = os.environ.pop(ENGINE_KEY_VARIABLE, "")
    parameters.api_keys = [key] if key else []
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:  # the library has already written why
        signal.alarm(_FLUSH_SECONDS)  # should nobody read what it writes
        flush_log(xllamacpp.xllamacpp.__file__)
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.write(f"listening on {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait(_ENDING)
    os._exit(0)


if __name__ == "__main__":
    main()
