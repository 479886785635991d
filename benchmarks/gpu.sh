#!/usr/bin/env bash
# Builds, tests and times the operators, rescoring and the training step on a CUDA GPU:
#
#   bash benchmarks/gpu.sh                     what fits into five minutes; call it again for the rest
#   bash benchmarks/gpu.sh --retry             stages that failed, once more; --help has the rest
#   bash benchmarks/gpu.sh --pack .whl         fetches wheels and lists what travels, with sizes
#   bash benchmarks/gpu.sh --decide JSON       the lines of the dispatch table that a result fills
#   bash benchmarks/gpu.sh --device cpu        rehearses all stages on little, where there is no GPU
#
# PYTHON=python3   the interpreter that has torch >= 2.10 with CUDA; what else it needs is NEEDED in
#                  benchmarks/_gpu/pack.py, and what lacks is said at once. Needs nvcc of the same
#                  CUDA major version; compute-sanitizer on PATH for its two stages
# WHEELS=FOLDER    wheels of what is lacking there, where no package index can be reached: those of
#                  --pack. They are unpacked below build/gpu, nothing is installed into the
#                  interpreter but clipvg itself (pip install -e .)
# CLIPVG_COMMIT=…  what the records name as the commit, where git cannot say it: in a copy of the files
# OUT=FOLDER       where the JSON goes; else benchmarks/results
#
# Each stage has a time limit and leaves a part below build/gpu, which is why it is not run again
# until a source changes: then all are, the build first, also where --only does not name it.
# The JSON gpu-<device>-pt<version>.json holds all parts and is written anew after each; a machine
# that has no parts takes them from the one in OUT or benchmarks/results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
site=$PWD/build/gpu/site
if [ -n "${WHEELS:-}" ] && [ ! -e "$site" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --target "$site.new" "$WHEELS"/*.whl
  mv "$site.new" "$site"
fi
if [ -e "$site" ]; then
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
if ! "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then
  echo "gpu.sh: $python cannot import torch; name an interpreter that can with PYTHON=" >&2
  exit 2
fi
exec "$python" benchmarks/gpu.py ${OUT:+--out "$OUT"} "$@"
