# shellcheck shell=bash disable=SC2154  # `here` is set by the script that reads this
# Which Python runs the scripts: that of .venv, or python3 where this folder was installed into a system of its own.
run() {
  local root=${here%/*} file=$1 python
  shift
  python=$root/.venv/bin/python
  [ -x "$python" ] || python=python3
  "$python" -c 'import importlib.util, sys
sys.exit(sys.version_info < (3, 10) or importlib.util.find_spec("hvac") is None)' || {
    printf '%s: %s is too old, or has no hvac; expected Python 3.10 or newer with requirements.txt: make venv\n' \
      "${0##*/}" "$python" >&2
    exit 2
  }
  PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -X utf8 "$here/$file" "$@"
}
