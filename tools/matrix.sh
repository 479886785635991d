#!/usr/bin/env bash
# Runs the core tests (`make test`) with each supported pair of Python and PyTorch, one after the other.
#
#   tools/matrix.sh [FOLDER]
#   ROWS="python3.12:2.12.1" tools/matrix.sh
#
# A row takes some fifteen minutes on two cores and 6 GB, which are removed at its end (KEEP=1 keeps them). What is
# tested is the last commit. Each row prints a line for the table in CONTRIBUTING.md; logs stay in FOLDER, and a row
# that has passed is not run again.
set -uo pipefail
cd "$(dirname "$0")/.."

ROWS=${ROWS:-"python3.11:2.10.0 python3.11:2.14.1 python3.13:2.15.0"}
folder=$(mkdir -p "${1:-runs/matrix}" && cd "${1:-runs/matrix}" && pwd)
source=$PWD
failed=0

for row in $ROWS; do
  python=${row%%:*} torch=${row##*:}
  name=$python-torch$torch
  log=$folder/$name.log
  if [ ! -f "$folder/$name.passed" ]; then
    rm -rf "${folder:?}/$name"
    git clone --quiet "$source" "$folder/$name"
    if make -C "$folder/$name" PYTHON="$python" TORCH="torch==$torch torchvision" test ARGS="${ARGS:-}" > "$log" 2>&1; then
      "$folder/$name/.venv/bin/python" -c 'import platform, torch, torchvision
print("|", platform.python_version(), "|", torch.__version__, "|", torchvision.__version__, "|", end=" ")' \
        > "$folder/$name.passed"
    else
      failed=1
    fi
    [ -n "${KEEP:-}" ] || rm -rf "${folder:?}/$name"
  fi
  cat "$folder/$name.passed" 2> /dev/null || printf '| %s | %s | | ' "$python" "$torch"
  tail -1 "$log" | tr -d '=' | sed 's/^ *//; s/ *$/ |/'
done
exit $failed
